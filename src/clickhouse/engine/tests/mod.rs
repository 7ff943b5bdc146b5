//! The embedded engine as its clients see it: the real engine, in its own process.
