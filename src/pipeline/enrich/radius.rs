//! How far from its entry's point an address may be, where the geo file does not say (DETECTION, "Places, as measured").

use std::f64::consts::PI;

/// No city of a database is surer than this, whatever it claims of itself.
const FLOOR_KM: f64 = 20.0;

/// Bounds of a radius that is guessed from a country's size.
const GUESSED_KM: std::ops::RangeInclusive<f64> = 50.0..=2000.0;

/// A guess for a narrow record is that much better.
const NARROW_FACTOR: f64 = 0.6;

/// A radius that the file (or the overlay) gives itself.
pub(super) fn own_km(radius_km: f64) -> f64 {
    radius_km.max(FLOOR_KM)
}

/// The radius where the file has none: that of a disc of the country's area, within bounds. `narrow` says that the
/// record is one for a /20 or longer.
pub(super) fn guessed_km(country: &str, narrow: bool) -> f64 {
    let (smallest, largest) = (*GUESSED_KM.start(), *GUESSED_KM.end());
    let disc = area_km2(country).map_or(largest, |area| (f64::from(area) / PI).sqrt());
    let bounded = disc.clamp(smallest, largest);
    if narrow { bounded * NARROW_FACTOR } else { bounded }
}

fn area_km2(country: &str) -> Option<u32> {
    let place = AREAS_KM2.binary_search_by(|(code, _)| (*code).cmp(country)).ok()?;
    Some(AREAS_KM2[place].1)
}

/// Countries and territories by ISO 3166-1 code: land and inland water in km², rounded to whole ones (UN Statistics
/// Division, Demographic Yearbook, table 3). France is its European part: its departments overseas have codes of
/// their own.
#[rustfmt::skip]
const AREAS_KM2: &[(&str, u32)] = &[
    ("AD", 468), ("AE", 83_600), ("AF", 652_864), ("AG", 442), ("AI", 91), ("AL", 28_748), ("AM", 29_743),
    ("AO", 1_246_700), ("AQ", 14_200_000), ("AR", 2_780_400), ("AS", 199), ("AT", 83_871), ("AU", 7_692_024),
    ("AW", 180), ("AX", 1_583), ("AZ", 86_600), ("BA", 51_209), ("BB", 431), ("BD", 148_460), ("BE", 30_528),
    ("BF", 272_967), ("BG", 111_002), ("BH", 778), ("BI", 27_834), ("BJ", 114_763), ("BL", 22), ("BM", 53),
    ("BN", 5_765), ("BO", 1_098_581), ("BQ", 328), ("BR", 8_515_767), ("BS", 13_940), ("BT", 38_394), ("BV", 49),
    ("BW", 582_000), ("BY", 207_600), ("BZ", 22_966), ("CA", 9_984_670), ("CC", 14), ("CD", 2_344_858),
    ("CF", 622_984), ("CG", 342_000), ("CH", 41_291), ("CI", 322_463), ("CK", 236), ("CL", 756_102),
    ("CM", 475_650), ("CN", 9_600_000), ("CO", 1_141_748), ("CR", 51_100), ("CU", 109_884), ("CV", 4_033),
    ("CW", 444), ("CX", 135), ("CY", 9_251), ("CZ", 78_871), ("DE", 357_582), ("DJ", 23_200), ("DK", 42_947),
    ("DM", 750), ("DO", 48_671), ("DZ", 2_381_741), ("EC", 257_217), ("EE", 45_339), ("EG", 1_002_000),
    ("EH", 266_000), ("ER", 121_144), ("ES", 505_944), ("ET", 1_104_300), ("FI", 338_440), ("FJ", 18_272),
    ("FK", 12_173), ("FM", 702), ("FO", 1_393), ("FR", 551_500), ("GA", 267_668), ("GB", 244_376), ("GD", 345),
    ("GE", 69_700), ("GF", 83_534), ("GG", 78), ("GH", 238_537), ("GI", 7), ("GL", 2_166_086), ("GM", 11_295),
    ("GN", 245_836), ("GP", 1_639), ("GQ", 28_052), ("GR", 131_957), ("GS", 3_903), ("GT", 108_889), ("GU", 549),
    ("GW", 36_125), ("GY", 214_969), ("HK", 1_107), ("HM", 412), ("HN", 112_492), ("HR", 56_594), ("HT", 27_750),
    ("HU", 93_023), ("ID", 1_910_931), ("IE", 69_825), ("IL", 22_072), ("IM", 572), ("IN", 3_287_263), ("IO", 60),
    ("IQ", 435_052), ("IR", 1_630_848), ("IS", 103_000), ("IT", 302_073), ("JE", 116), ("JM", 10_990),
    ("JO", 89_318), ("JP", 377_975), ("KE", 591_958), ("KG", 199_949), ("KH", 181_035), ("KI", 726), ("KM", 2_235),
    ("KN", 261), ("KP", 120_538), ("KR", 100_401), ("KW", 17_818), ("KY", 264), ("KZ", 2_724_902), ("LA", 236_800),
    ("LB", 10_452), ("LC", 616), ("LI", 160), ("LK", 65_610), ("LR", 111_369), ("LS", 30_355), ("LT", 65_286),
    ("LU", 2_586), ("LV", 64_594), ("LY", 1_676_198), ("MA", 446_550), ("MC", 2), ("MD", 33_847), ("ME", 13_888),
    ("MF", 53), ("MG", 587_041), ("MH", 181), ("MK", 25_713), ("ML", 1_240_192), ("MM", 676_577), ("MN", 1_564_116),
    ("MO", 33), ("MP", 457), ("MQ", 1_090), ("MR", 1_030_700), ("MS", 103), ("MT", 315), ("MU", 1_979), ("MV", 300),
    ("MW", 117_726), ("MX", 1_964_375), ("MY", 330_621), ("MZ", 799_380), ("NA", 825_229), ("NC", 19_100),
    ("NE", 1_267_000), ("NF", 36), ("NG", 923_768), ("NI", 130_373), ("NL", 41_543), ("NO", 323_772), ("NP", 147_181),
    ("NR", 21), ("NU", 260), ("NZ", 268_107), ("OM", 309_980), ("PA", 75_320), ("PE", 1_285_216), ("PF", 3_687),
    ("PG", 462_840), ("PH", 300_000), ("PK", 796_095), ("PL", 312_679), ("PM", 242), ("PN", 5), ("PR", 8_868),
    ("PS", 6_025), ("PT", 92_225), ("PW", 459), ("PY", 406_752), ("QA", 11_637), ("RE", 2_510), ("RO", 238_398),
    ("RS", 88_499), ("RU", 17_098_246), ("RW", 26_338), ("SA", 2_206_714), ("SB", 28_896), ("SC", 457),
    ("SD", 1_861_484), ("SE", 438_574), ("SG", 728), ("SH", 394), ("SI", 20_273), ("SJ", 62_422), ("SK", 49_035),
    ("SL", 72_300), ("SM", 61), ("SN", 196_712), ("SO", 637_657), ("SR", 163_820), ("SS", 658_841), ("ST", 964),
    ("SV", 21_041), ("SX", 34), ("SY", 185_180), ("SZ", 17_363), ("TC", 948), ("TD", 1_284_000), ("TF", 7_829),
    ("TG", 56_785), ("TH", 513_140), ("TJ", 142_600), ("TK", 12), ("TL", 14_919), ("TM", 488_100), ("TN", 163_610),
    ("TO", 747), ("TR", 783_562), ("TT", 5_127), ("TV", 26), ("TW", 36_197), ("TZ", 947_303), ("UA", 603_500),
    ("UG", 241_550), ("UM", 34), ("US", 9_833_517), ("UY", 173_626), ("UZ", 448_969), ("VA", 1), ("VC", 389),
    ("VE", 929_690), ("VG", 151), ("VI", 347), ("VN", 331_345), ("VU", 12_189), ("WF", 142), ("WS", 2_842),
    ("XK", 10_887), ("YE", 527_968), ("YT", 368), ("ZA", 1_221_037), ("ZM", 752_612), ("ZW", 390_757),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_the_disc_of_the_countrys_area_within_bounds() {
        let check = |country: &str, narrow: bool, expected: f64| {
            let guess = guessed_km(country, narrow);
            assert!((guess - expected).abs() < 0.1, "{country}: {guess}");
        };
        // DETECTION's example, Paris to Tokyo: 9,712 km less these two is 8,946.
        check("FR", false, 419.0);
        check("JP", false, 346.9);
        check("JP", true, 208.1);
        check("US", false, 1769.2);
        check("RU", false, 2000.0);
        check("SG", false, 50.0);
        check("SG", true, 30.0);
        check("", false, 2000.0);
        check("ZZ", true, 1200.0);
    }

    #[test]
    fn no_radius_of_a_file_is_below_the_floor() {
        assert_eq!(own_km(1.0), 20.0);
        assert_eq!(own_km(100.0), 100.0);
    }

    #[test]
    fn the_table_can_be_searched() {
        assert!(AREAS_KM2.is_sorted_by(|a, b| a.0 < b.0));
        assert!(AREAS_KM2.iter().all(|(code, area)| code.len() == 2 && *area > 0));
        assert_eq!(AREAS_KM2.len(), 250, "249 codes of ISO 3166-1 and Kosovo's");
    }
}
