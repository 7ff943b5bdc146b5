//! What each rule said of one event: the same words whether anyone asked for them or not.

use std::fmt;

use crate::model::{Confidence, Kind, NetworkKind, RuleId, Severity};

/// One rule's answer for one event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ruling {
    pub(crate) rule: RuleId,
    pub(crate) why: Why,
}

impl Ruling {
    pub(crate) const fn fired(&self) -> bool {
        matches!(self.why, Why::Fired { .. })
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.why)
    }
}

/// Why a rule fired or did not. Cheap: made for every event, put into words only when somebody asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Why {
    Fired {
        severity: Severity,
        confidence: Confidence,
    },
    /// Older than stream time − 24 h.
    Late,
    NotAUse(Kind),
    Unattested,
    Unverified,
    Internal,
    NoSubject,
    Client,
    Clamped,
    NoAddress,
    NoOrigin(NetworkKind),
    Backend,
    NoPlace,
    /// No other use of the subject (or the token) is remembered.
    FirstUse,
    Kin,
    CompanyEgress,
    /// The pair that came nearest to being impossible.
    Reachable {
        net_km: f64,
        gap_s: u64,
    },
    NoRef,
    NoDifference,
    Proved,
    /// A country or class differs, but no origin was seen again after the other and the device does not differ.
    NoOverlap,
    Origins(usize),
    NoLeak,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fired { severity, confidence } => {
                write!(f, "fired, severity {severity}, confidence {confidence}")
            }
            Self::Late => f.write_str("not: more than 24 h behind the stream"),
            Self::NotAUse(kind) => write!(f, "not eligible: {kind} is no use of a token"),
            Self::Unattested => {
                f.write_str("not eligible: the record lacks the signature its tenant requires")
            }
            Self::Unverified => f.write_str("not eligible: no gateway found the signature good"),
            Self::Internal => f.write_str("not eligible: zone internal"),
            Self::NoSubject => f.write_str("not eligible: no subject"),
            Self::Client => f.write_str("not eligible: the subject is a client"),
            Self::Clamped => f.write_str("not eligible: its time was clamped"),
            Self::NoAddress => f.write_str("not eligible: no address"),
            Self::NoOrigin(kind) => write!(f, "not eligible: a {kind} address is no origin"),
            Self::Backend => f.write_str("not: the address is a declared backend of the client"),
            Self::NoPlace => f.write_str("not: no file and no overlay places the address"),
            Self::FirstUse => f.write_str("not: nothing else is remembered to compare with"),
            Self::Kin => f.write_str("not: same origin"),
            Self::CompanyEgress => f.write_str("not: company egress"),
            Self::Reachable { net_km, gap_s } => {
                write!(f, "not: {net_km:.0} km in {} can be travelled", super::words::span(*gap_s as f64))
            }
            Self::NoRef => f.write_str("not: the event names no token"),
            Self::NoDifference => f.write_str("not: same country, network class and device"),
            Self::Proved => f.write_str("not: the key that the token is bound to was shown at both ends"),
            Self::NoOverlap => f.write_str("not: moved once, and no second device was seen"),
            Self::Origins(count) => write!(f, "not: {count} of 5 independent origins"),
            Self::NoLeak => f.write_str("not: no token-shaped text"),
        }
    }
}
