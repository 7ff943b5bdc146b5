//! Spans and distances as people read them.

/// Seconds as `40 min`, `8.9 h`; under two minutes as `60 s`.
pub(super) fn span(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 7_200.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3_600.0)
    }
}

/// `Paris, FR`, `FR`, or `an unknown place`.
pub(super) fn place_name(city: &str, country: &str) -> String {
    match (city.is_empty(), country.is_empty()) {
        (false, false) => format!("{city}, {country}"),
        (false, true) => city.to_owned(),
        (true, false) => country.to_owned(),
        (true, true) => "an unknown place".to_owned(),
    }
}
