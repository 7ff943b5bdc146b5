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

/// Why ranges cannot be a map.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RangeError {
    #[error("{0} to {1} is no range of addresses")]
    NotARange(IpAddr, IpAddr),
    #[error("the range that ends at {0} begins in another one and reaches beyond its end")]
    Crossing(IpAddr),
}

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
    pub(super) fn insert(&mut self, first: IpAddr, last: IpAddr, value: usize) -> Result<(), RangeError> {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) if a <= b => {
                self.v4.push(Range::new(a.to_bits(), b.to_bits(), value));
            }
            (IpAddr::V6(a), IpAddr::V6(b)) if a <= b => {
                self.v6.push(Range::new(a.to_bits(), b.to_bits(), value));
            }
            _ => return Err(RangeError::NotARange(first, last)),
        }
        Ok(())
    }

    /// Flattens. Of two equal ranges the later one wins.
    pub(super) fn build(self) -> Result<RangeMap, RangeError> {
        let to_v4 = |bits: u128| u32::try_from(bits).ok();
        let v4 = flatten(self.v4, to_v4).map_err(|last| {
            RangeError::Crossing(to_v4(last).map_or(IpAddr::V6(last.into()), |v4| IpAddr::V4(v4.into())))
        })?;
        let v6 = flatten(self.v6, Some).map_err(|last| RangeError::Crossing(IpAddr::V6(last.into())))?;
        Ok(RangeMap { v4, v6 })
    }
}

impl Range {
    /// Owners keep fewer than 2³² − 1 values: each takes more than a byte of a file that was read.
    fn new(first: impl Into<u128>, last: impl Into<u128>, value: usize) -> Self {
        Self { first: first.into(), last: last.into(), value: u32::try_from(value).unwrap_or(GAP) }
    }
}

/// Sweeps over the ranges from the lowest address up, with those that are open on a stack. The error is the last
/// address of a range that crosses another.
fn flatten<N>(mut ranges: Vec<Range>, narrow: impl Fn(u128) -> Option<N>) -> Result<Segments<N>, u128> {
    // A stable sort: of equal ranges the later one stays later, and so comes to lie inside.
    ranges.sort_by(|a, b| a.first.cmp(&b.first).then(b.last.cmp(&a.last)));
    let mut segments: Vec<(u128, u32)> = Vec::with_capacity(ranges.len() + 1);
    let mut begin = |start: u128, value: u32| match segments.last_mut() {
        Some((last_start, last_value)) if *last_start == start => *last_value = value,
        Some((_, last_value)) if *last_value == value => {}
        _ => segments.push((start, value)),
    };
    let mut open: Vec<Range> = Vec::new();
    for range in ranges {
        while let Some(ended) = open.pop_if(|inner| inner.last < range.first) {
            begin(ended.last + 1, open.last().map_or(GAP, |outer| outer.value));
        }
        if open.last().is_some_and(|outer| range.last > outer.last) {
            return Err(range.last);
        }
        begin(range.first, range.value);
        open.push(range);
    }
    while let Some(ended) = open.pop() {
        if let Some(next) = ended.last.checked_add(1) {
            begin(next, open.last().map_or(GAP, |outer| outer.value));
        }
    }
    // Past the family's last address (2³² for IPv4) there is nothing to look up.
    let (starts, values) =
        segments.into_iter().map_while(|(start, value)| Some((narrow(start)?, value))).unzip();
    Ok(Segments { starts, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(cidrs: &[&str]) -> RangeMap {
        let mut builder = RangeMapBuilder::default();
        for (value, cidr) in cidrs.iter().enumerate() {
            builder.insert_cidr(cidr.parse().unwrap(), value);
        }
        builder.build().unwrap()
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

    #[test]
    fn every_address_has_the_value_of_the_smallest_range_around_it() {
        // All nestings of prefixes within one /28, held to the plain definition.
        let cidrs: Vec<IpNet> = (28..=32)
            .flat_map(|length| {
                (0..16).step_by(3).map(move |low| format!("192.0.2.{low}/{length}").parse().unwrap())
            })
            .collect();
        for skip in 0..cidrs.len() {
            let chosen: Vec<_> =
                cidrs.iter().enumerate().filter(|(index, _)| index % (skip + 1) == 0).collect();
            let mut builder = RangeMapBuilder::default();
            for (value, cidr) in &chosen {
                builder.insert_cidr(**cidr, *value);
            }
            let map = builder.build().unwrap();
            for low in 0..32 {
                let ip = IpAddr::from([192, 0, 2, low]);
                let around = chosen.iter().filter(|(_, cidr)| cidr.contains(&ip));
                let expected =
                    around.max_by_key(|(index, cidr)| (cidr.prefix_len(), *index)).map(|(index, _)| *index);
                assert_eq!(map.get(ip), expected, "{ip} of {chosen:?}");
            }
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let mut builder = RangeMapBuilder::default();
        let (first, last) = (ip("192.0.2.9"), ip("192.0.2.1"));
        assert_eq!(builder.insert(first, last, 0), Err(RangeError::NotARange(first, last)));
        let (first, last) = (ip("192.0.2.1"), ip("2001:db8::"));
        assert_eq!(builder.insert(first, last, 0), Err(RangeError::NotARange(first, last)));
        builder.insert(ip("192.0.2.0"), ip("192.0.2.9"), 0).unwrap();
        builder.insert(ip("192.0.2.5"), ip("192.0.2.15"), 1).unwrap();
        assert_eq!(builder.build().err(), Some(RangeError::Crossing(ip("192.0.2.15"))));
    }
}
