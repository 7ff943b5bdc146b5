//! `make soak MINUTES=… RATE=…`: nothing goes wrong for a long time, and memory, latency and files are written down each
//! minute. It is for reading; only what is stored is proved at the end.

use std::path::Path;
use std::time::Duration;

use super::house::House;
use super::load::Load;
use super::schedule::Size;
use super::{PATIENCE, proof, setting};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is to take an hour: make soak"]
async fn soak() {
    let minutes = setting("MINUTES", 60);
    let rate = u32::try_from(setting("RATE", 500)).unwrap();
    let house = House::build(Size { brokers: 1, runs: 1 }).await;
    let load = Load::start(&house, 1, rate);
    let mut before = Latency::read(&house).await;
    println!("minute\tsent\trows\tp50_ms\tp99_ms\tresident_mib\tclickhouse_mib\tkafka_mib\tother_mib\tparts");
    for minute in 1..=minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let now = Latency::read(&house).await;
        let resident: Vec<String> =
            house.resident().await.iter().map(|(part, mib)| format!("{part} {mib}")).collect();
        let all = mebibytes(house.path(), "");
        let (clickhouse, kafka) =
            (mebibytes(&house.path().join("data/clickhouse"), ""), mebibytes(house.path(), "jwtrail-kafka"));
        let ask = async |sql: &str| house.onlooker.query(sql).await.unwrap_or_default();
        println!(
            "{minute}\t{}\t{}\t{:.0}\t{:.0}\t{}\t{clickhouse}\t{kafka}\t{}\t{}",
            load.sent(),
            ask("SELECT count() FROM events").await,
            now.quantile_ms(&before, 0.5),
            now.quantile_ms(&before, 0.99),
            resident.join(", "),
            all - clickhouse - kafka,
            ask("SELECT count() FROM system.parts WHERE active").await,
        );
        before = now;
    }
    let ledger = load.stop(PATIENCE).await.unwrap();
    proof::settled(&house, PATIENCE).await.unwrap();
    let wrong = [proof::rows(&house, &ledger).await, proof::accounts(&house, &ledger).await].concat();
    assert_eq!(wrong, Vec::<String>::new());
}

/// The histogram from append to row, as it is now: upper bounds in seconds, and how many were at or below each.
struct Latency(Vec<(f64, f64)>);

impl Latency {
    async fn read(house: &House) -> Self {
        let url = format!("http://{}/metrics", house.metrics[0]);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let bucket = |line: &str| {
            let rest = line.strip_prefix("jwtrail_append_to_row_seconds_bucket{le=\"")?;
            let (bound, count) = rest.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    /// The upper bound of the bucket that holds the quantile of what came since `before`.
    fn quantile_ms(&self, before: &Self, quantile: f64) -> f64 {
        let since = |index: usize| self.0[index].1 - before.0.get(index).map_or(0.0, |(_, count)| *count);
        let Some(last) = self.0.len().checked_sub(1) else { return f64::NAN };
        let wanted = since(last) * quantile;
        (0..=last).find(|&index| since(index) >= wanted).map_or(f64::NAN, |index| self.0[index].0 * 1_000.0)
    }
}

/// What lies below a folder, in folders whose names begin so.
fn mebibytes(folder: &Path, prefix: &str) -> u64 {
    fn bytes(folder: &Path) -> u64 {
        let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
        // Files may go while they are counted.
        let size = |entry: std::fs::DirEntry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        };
        entries.flatten().map(size).sum()
    }
    if prefix.is_empty() {
        return bytes(folder) >> 20;
    }
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let wanted = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    wanted.map(|entry| bytes(&entry.path())).sum::<u64>() >> 20
}
