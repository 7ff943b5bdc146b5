//! The rules, told as stories. A line is one use: when, who, where, then what differs from the usual.

pub(in crate::pipeline) mod story;

mod travel;

mod replay;

mod leak;

mod cases;

mod scenarios;

pub(super) mod property;

mod checkpoint;
