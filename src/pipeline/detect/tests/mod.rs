//! The rules, told as stories. A line is one use: when, who, where, then what differs from the usual.

mod story;

mod travel;

mod replay;

mod leak;

mod cases;

mod property;
