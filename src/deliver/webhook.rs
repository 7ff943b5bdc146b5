//! A webhook: the alert as JSON, signed as Standard Webhooks says.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};

use super::DeliverError;
use super::queue::{Answer, Job};
use crate::clock::Clock;
use crate::config::{HookUrl, Secret, webhook_key};
use crate::model::UnixMs;
use crate::outbound::{Outbound, Timeouts, innermost};

/// A receiver.
pub(super) struct Webhook {
    outbound: Outbound,
    url: HookUrl,
    keys: Vec<hmac::Key>,
    clock: Clock,
}

/// Of an answer's body nothing is needed; so much is read for the connection to be used again.
const ANSWER_BYTES: usize = 64 << 10;

impl Webhook {
    pub(super) fn new(
        name: &str,
        url: HookUrl,
        secrets: &[Secret],
        allow_private: bool,
        timeouts: Timeouts,
        clock: Clock,
    ) -> Result<Self, DeliverError> {
        let key = |secret| webhook_key(secret).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key));
        let keys: Option<Vec<_>> = secrets.iter().map(key).collect();
        let keys = keys.filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| DeliverError::NoSecret { destination: name.to_owned() })?;
        let outbound = Outbound::new(allow_private, timeouts)
            .map_err(|cause| DeliverError::Client { destination: name.to_owned(), cause })?;
        Ok(Self { outbound, url, keys, clock })
    }

    /// Tells the receiver once.
    pub(super) async fn tell(&self, job: &Job) -> Answer {
        let request = match self.outbound.request(Method::POST, self.url.expose()) {
            Ok(request) => request,
            Err(not_public) => return Answer::Away { why: not_public.to_string(), retry_after: None },
        };
        let now = self.clock.now();
        let seconds = now.get().div_euclid(1_000);
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &job.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", sign(&self.keys, &job.id, seconds, &job.body))
            .body(job.body.clone());
        match request.send().await {
            Ok(answer) => {
                let judged = judge(answer.status(), answer.headers(), now);
                drain(answer).await;
                judged
            }
            Err(error) => Answer::Away { why: innermost(&error.without_url()), retry_after: None },
        }
    }
}

/// `v1,BASE64` of HMAC-SHA256 over `id.timestamp.body`, one for each key.
fn sign(keys: &[hmac::Key], id: &str, seconds: i64, body: &[u8]) -> String {
    let signature = |key: &hmac::Key| {
        let mut context = hmac::Context::with_key(key);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64_STANDARD.encode(context.sign()))
    };
    keys.iter().map(signature).collect::<Vec<_>>().join(" ")
}

/// Only 2xx is success; a redirect is not followed, it is a refusal.
fn judge(status: StatusCode, headers: &HeaderMap, now: UnixMs) -> Answer {
    if status.is_success() {
        return Answer::Delivered;
    }
    let retry_after = headers.get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
    let why = format!("it answered {}", status.as_u16());
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Answer::Away { why, retry_after },
        _ => Answer::Refused { why, retry_after },
    }
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(value: &str, now: UnixMs) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let wait = date.timestamp().as_millisecond().saturating_sub(now.get());
    Some(Duration::from_millis(u64::try_from(wait).unwrap_or_default()))
}

async fn drain(mut answer: reqwest::Response) {
    let mut left = ANSWER_BYTES;
    while let Ok(Some(chunk)) = answer.chunk().await {
        match left.checked_sub(chunk.len()) {
            Some(rest) => left = rest,
            // It goes on talking: the connection is not worth it.
            None => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &webhook_key(&Secret::new(secret.to_owned())).unwrap())
    }

    /// The vector of the specification's reference libraries.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let keys =
            [key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx")];
        let signed = sign(&keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        let (first, second) = signed.split_once(' ').unwrap();
        assert_eq!(first, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(second.starts_with("v1,") && second != first);
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        let now = "2026-11-23T10:15:00Z".parse().unwrap();
        let check = |value: &str, seconds: Option<u64>| {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check("Mon, 23 Nov 2026 10:16:00 GMT", Some(60));
        check("Mon, 23 Nov 2026 10:14:00 GMT", Some(0));
        check("soon", None);
        check("-1", None);
    }

    #[test]
    fn only_2xx_is_success() {
        let check = |status: u16, expected: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let judged = match judge(status, &HeaderMap::new(), UnixMs::new(0)) {
                Answer::Delivered => "delivered",
                Answer::Away { .. } => "away",
                Answer::Refused { .. } => "refused",
            };
            assert_eq!(judged, expected, "{status}");
        };
        for (statuses, expected) in [
            (&[200, 202, 204][..], "delivered"),
            (&[301, 302, 307, 400, 401, 404, 410, 500], "refused"),
            (&[429, 502, 503, 504], "away"),
        ] {
            statuses.iter().for_each(|&status| check(status, expected));
        }
    }
}
