//! Ranges of addresses, flattened so that a look-up is one binary search: the innermost range wins.

use std::net::IpAddr;

use ipnet::IpNet;

/// Stands for "nothing" between ranges.
const GAP: u32 = u32::MAX;

/// What covers an address, as an index into something that the owner keeps.
pub(super) struct RangeMap {
    v4: Segments<u32>,
    v6: Segments<u128>,
}

/// Each segment reaches to the next one's start.
struct Segments<N> {
    starts: Vec<N>,
    values: Vec<u32>,
}

impl<N: Ord> Segments<N> {
    fn get(&self, address: &N) -> Option<u32> {
        let segment = self.starts.partition_point(|start| start <= address).checked_sub(1)?;
        Some(self.values[segment]).filter(|value| *value != GAP)
    }
}

impl RangeMap {
    /// The value of the innermost range around `ip`.
    pub(super) fn get(&self, ip: IpAddr) -> Option<usize> {
        let value = match ip {
            IpAddr::V4(v4) => self.v4.get(&v4.to_bits()),
            IpAddr::V6(v6) => self.v6.get(&v6.to_bits()),
        };
        value.map(|value| value as usize)
    }
}

/// Ranges as they are read, in any order.
#[derive(Default)]
pub(super) struct RangeMapBuilder {
    v4: Vec<Range>,
    v6: Vec<Range>,
}

/// Inclusive.
#[derive(Clone, Copy)]
struct Range {
    first: u128,
    last: u128,
    value: u32,
}

/// The two are no range: of different families, or the wrong way round.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} to {1} is no range of addresses")]
pub(super) struct NotARange(IpAddr, IpAddr);

impl RangeMapBuilder {
    pub(super) fn insert_cidr(&mut self, cidr: IpNet, value: usize) {
        match cidr {
            IpNet::V4(v4) => {
                self.v4.push(Range::new(v4.network().to_bits(), v4.broadcast().to_bits(), value))
            }
            IpNet::V6(v6) => {
                self.v6.push(Range::new(v6.network().to_bits(), v6.broadcast().to_bits(), value))
            }
        }
    }

    /// `first` and `last` both belong to the range.
    pub(super) fn insert(&mut self, first: IpAddr, last: IpAddr, value: usize) -> Result<(), NotARange> {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => {
                self.v4.push(Range::new(a.to_bits(), b.to_bits(), value));
            }
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => {
                self.v6.push(Range::new(a.to_bits(), b.to_bits(), value));
            }
            _ => return Err(NotARange(first, last)),
        }
        Ok(())
    }

    /// Flattens. Of the ranges around an address the one that begins last wins, of those the one that ends first, of
    /// equal ones the one that was inserted last. Ranges of public data do cross now and then.
    pub(super) fn build(self) -> RangeMap {
        RangeMap { v4: flatten(self.v4, |bits| u32::try_from(bits).ok()), v6: flatten(self.v6, Some) }
    }
}

impl Range {
    /// Owners keep fewer than 2³² − 1 values: each takes more than a byte of a file that was read.
    fn new(first: impl Into<u128>, last: impl Into<u128>, value: usize) -> Self {
        Self { first: first.into(), last: last.into(), value: u32::try_from(value).unwrap_or(GAP) }
    }
}

/// Sweeps over the ranges from the lowest address up, with those that have begun on a stack: the top one covers.
/// `narrow` is `None` past the family's last address, where there is nothing to look up.
fn flatten<N>(mut ranges: Vec<Range>, narrow: impl Fn(u128) -> Option<N>) -> Segments<N> {
    // A stable sort: of equal ranges the later one stays later, and so comes to lie on top.
    ranges.sort_by(|a, b| a.first.cmp(&b.first).then(b.last.cmp(&a.last)));
    let mut segments: Vec<(u128, u32)> = Vec::with_capacity(ranges.len() + 1);
    let mut begin = |start: u128, value: u32| match segments.last_mut() {
        Some((last_start, last_value)) if *last_start == start => *last_value = value,
        Some((_, last_value)) if *last_value == value => {}
        _ => segments.push((start, value)),
    };
    let mut begun: Vec<Range> = Vec::new();
    for range in ranges {
        while let Some(ended) = begun.pop_if(|top| top.last < range.first) {
            begin(ended.last + 1, uncovered(&mut begun, ended.last));
        }
        begin(range.first, range.value);
        begun.push(range);
    }
    while let Some(ended) = begun.pop() {
        if let Some(next) = ended.last.checked_add(1) {
            begin(next, uncovered(&mut begun, ended.last));
        }
    }
    let (starts, values) =
        segments.into_iter().map_while(|(start, value)| Some((narrow(start)?, value))).unzip();
    Segments { starts, values }
}

/// What covers the address after `last`, where the top range has just ended. Ranges that ended below it are dropped.
fn uncovered(begun: &mut Vec<Range>, last: u128) -> u32 {
    while begun.pop_if(|hidden| hidden.last <= last).is_some() {}
    begun.last().map_or(GAP, |outer| outer.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(cidrs: &[&str]) -> RangeMap {
        let mut builder = RangeMapBuilder::default();
        for (value, cidr) in cidrs.iter().enumerate() {
            builder.insert_cidr(cidr.parse().unwrap(), value);
        }
        builder.build()
    }

    #[test]
    fn the_innermost_range_wins_and_gaps_are_nothing() {
        let map = map(&[
            "198.51.100.0/24",
            "0.0.0.0/1",
            "198.51.100.64/26",
            "198.51.100.127/32",
            "203.0.113.0/24",
            "198.51.100.0/24",
            "2001:db8::/32",
            "2001:db8:ff::/48",
            "255.255.255.255/32",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
        ]);
        let check = |ip: &str, value: Option<usize>| assert_eq!(map.get(ip.parse().unwrap()), value, "{ip}");
        check("0.0.0.0", Some(1));
        check("127.255.255.255", Some(1));
        check("128.0.0.0", None);
        check("198.51.100.0", Some(5));
        check("198.51.100.64", Some(2));
        check("198.51.100.126", Some(2));
        check("198.51.100.127", Some(3));
        check("198.51.100.128", Some(5));
        check("198.51.101.0", None);
        check("203.0.113.255", Some(4));
        check("255.255.255.254", None);
        check("255.255.255.255", Some(8));
        check("2001:db8::1", Some(6));
        check("2001:db8:ff::1", Some(7));
        check("2001:db9::", None);
        check("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Some(9));
    }

    /// The plain definition, range by range.
    fn expected(ranges: &[(u8, u8)], low: u8) -> Option<usize> {
        let around = ranges.iter().enumerate().filter(|(_, (first, last))| (*first..=*last).contains(&low));
        around.max_by_key(|(index, (first, last))| (*first, u8::MAX - last, *index)).map(|(index, _)| index)
    }

    proptest::proptest! {
        #[test]
        fn of_the_ranges_around_an_address_the_one_that_begins_last_wins(
            ranges in proptest::collection::vec((0..24_u8, 0..24_u8), 0..12)
        ) {
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            let mut builder = RangeMapBuilder::default();
            for (value, (first, last)) in ranges.iter().enumerate() {
                let ip = |low: u8| IpAddr::from([192, 0, 2, low]);
                builder.insert(ip(*first), ip(*last), value).unwrap();
            }
            let map = builder.build();
            for low in 0..26 {
                proptest::prop_assert_eq!(map.get(IpAddr::from([192, 0, 2, low])), expected(&ranges, low));
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (first, last) in
            [("192.0.2.9", "192.0.2.1"), ("192.0.2.1", "2001:db8::"), ("2001:db8::", "192.0.2.1")]
        {
            let (first, last) = (first.parse().unwrap(), last.parse().unwrap());
            let refused = RangeMapBuilder::default().insert(first, last, 0);
            assert_eq!(refused, Err(NotARange(first, last)));
        }
    }
}
