//! The log on Apache Kafka.

#[cfg(test)]
mod tests;
