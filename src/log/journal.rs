//! The log as a durable journal inside this process, for a single machine.
