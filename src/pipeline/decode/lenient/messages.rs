//! What the door says to whoever sent what it could not take. Never a value: it may be a secret.

use super::super::RejectReason;
use super::RefusalCode;

/// One sentence: what is wrong with `field` and what to send instead.
pub(super) fn message(code: RefusalCode, field: &str) -> String {
    let name = if field.is_empty() { "the event".to_owned() } else { format!("`{field}`") };
    let reason = match code {
        RefusalCode::Conflict => {
            return format!("{name} is not this credential's: leave it out, or use the key that may send it");
        }
        RefusalCode::Rejected(reason) => reason,
    };
    match reason {
        RejectReason::NotUtf8 => format!("{name} is not UTF-8"),
        RejectReason::NotJson => format!("{name} is not JSON here: see RFC 8259"),
        RejectReason::DuplicateMember => format!("{name} is there twice: send it once"),
        RejectReason::TooLarge => {
            "the event has more than 32 KiB: send less of what is not in the schema".to_owned()
        }
        RejectReason::TooDeep => format!("{name} nests deeper than 8 levels"),
        RejectReason::TooLong => format!("{name} is longer than {} allow", limit(field)),
        RejectReason::TooMany => format!("{name} has more than 64 elements"),
        RejectReason::MissingField => format!("{name} is missing: send {}", expected(field)),
        RejectReason::BadType | RejectReason::BadValue => format!("{name} must be {}", expected(field)),
        RejectReason::UnknownVersion => "`/version` must be 1, or left out".to_owned(),
        RejectReason::UnknownKind => {
            "`/kind` must be accepted, rejected or heartbeat, or left out".to_owned()
        }
        RejectReason::IssuerSignatureInvalid => {
            "this kind is the issuer's to write: a gateway sends accepted, rejected or heartbeat".to_owned()
        }
        RejectReason::ClickhouseRefused => format!("{name} cannot be stored"),
        RejectReason::TenantSetAside => {
            "the tenant is set aside: too much of what it sends is no event".to_owned()
        }
        RejectReason::NotSealed => format!("{name} is not for others to write"),
    }
}

fn limit(field: &str) -> &'static str {
    match field {
        "/id" => "128 characters",
        "/request/user_agent" => "512 bytes",
        _ => "2 KiB",
    }
}

/// What a member is to be, by its pointer.
fn expected(field: &str) -> &'static str {
    match field {
        "" => "a JSON object: one event",
        "/id" => "a string of at most 128 characters, the same again when the event is sent again",
        "/time" => "an RFC 3339 time, or seconds or milliseconds since 1970",
        "/tenant" => "one of the tenants of this credential: 1 to 63 of a-z, 0-9, `.`, `_`, `-`",
        "/source/gateway" | "/source/region" => "a name: 1 to 63 of a-z, 0-9, `.`, `_`, `-`",
        "/source/zone" => "edge or internal",
        "/gateway_verdict" => "one of the verdicts of the schema, such as valid, expired, bad_signature",
        "/token/ref" => {
            "the token's ref (43 characters of base64url; see schemas/refs), or `jti` to have it hashed, \
             or `outer_ref` of an encrypted token"
        }
        "/token/jti_ref" => "the ref of the token's iss and jti: 43 characters of base64url",
        "/token/outer_ref" | "/token/parent_ref" | "/token/origin_ref" => "a ref: 43 characters of base64url",
        "/token/iss" => "the token's issuer, the claim `iss`",
        "/token/sub" => "the token's subject, the claim `sub`",
        "/token/iat" | "/token/nbf" | "/token/exp" | "/token/auth_time" => "whole seconds since 1970",
        "/token/subject_kind" => "user or client",
        "/request/ip" | "/request/peer_ip" => {
            "an IPv4 or IPv6 address: the client's, not the proxy's, as `ip`"
        }
        "/request/status" => "an HTTP status: 100 to 999",
        "/request/duration_ms" => "whole milliseconds",
        "/heartbeat" => "{\"sent\": n, \"dropped\": n, \"closing\": false}",
        _ if field.starts_with("/token/aud") || field.starts_with("/token/scope") => {
            "a string or a list of strings"
        }
        _ => "what the schema says of it (schemas/events)",
    }
}
