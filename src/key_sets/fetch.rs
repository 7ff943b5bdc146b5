//! One call for one key set.

use reqwest::header::ACCEPT;
use reqwest::{Method, StatusCode, Url};

use super::KeySetError;
use crate::outbound::{Outbound, innermost};

/// The largest answer that is read: real sets have a few KiB.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The body of a 200. How long it may take is the client's bound, from the first byte to the last.
pub(super) async fn fetch(outbound: &Outbound, url: &Url) -> Result<Vec<u8>, KeySetError> {
    let request =
        outbound.request(Method::GET, url)?.header(ACCEPT, "application/jwk-set+json, application/json");
    let unreachable = |error: reqwest::Error| KeySetError::Unreachable(innermost(&error.without_url()));
    let mut answer = request.send().await.map_err(unreachable)?;
    if answer.status() != StatusCode::OK {
        return Err(KeySetError::Refused(answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(KeySetError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
