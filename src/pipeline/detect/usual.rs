//! Which origins are usual for a subject: those with an accepted use on at least three of the last thirty days.
//!
//! Class: settled past. A day counts for a time if it had ended, and the lateness bound had passed, before that time:
//! what happened on it has arrived by then, so that the order of arrival does not matter. What comes later than the bound,
//! makes room, or was walked by nobody here only leaves days out: then less is usual, and a case louder.
//!
//! It changes once a day for each subject and origin. A use on a day that is known costs a look-up and writes nothing.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::cases::HOUR_MS;
use super::checkpoint::{Changes, Restored, Store, plain, read_plain};
use super::keyed::{Entry, Keyed};
use super::keys::StateKey;
use super::terms::{OriginKey, Use};
use crate::model::UnixMs;

/// So many days of the last [`LAST_DAYS`] make an origin usual.
const USUAL_DAYS: u32 = 3;
const LAST_DAYS: i64 = 30;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How late a use may come and still be in time.
const LATENESS_MS: i64 = 10 * 60_000;

/// The newest day and those before it that can still count: an event may be a day late, and another five minutes early.
const KEPT_DAYS: u32 = 33;
/// A day counts for so long after a use on it.
const REMEMBER_MS: i64 = (LAST_DAYS + 2) * DAY_MS;

const MAX_ORIGINS: usize = 8;

/// The habits of one partition's subjects.
pub(super) struct Usual {
    subjects: Keyed<StateKey, Habits>,
    /// Origins that made room for newer ones of their subject.
    evicted: u64,
}

/// A subject's origins.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Habits {
    /// The newest day, in days of UTC since the epoch.
    newest: i64,
    origins: Vec<Habit>,
}

#[derive(Serialize, Deserialize)]
struct Habit {
    origin: OriginKey,
    /// Bit n: there was a use n days before the newest. Never 0.
    days: u64,
}

impl Entry for Habits {
    fn heap_bytes(&self) -> usize {
        self.origins.capacity() * size_of::<Habit>()
    }
}

pub(super) fn read(bytes: &[u8]) -> Option<Habits> {
    read_plain(bytes).filter(|habits: &Habits| habits.origins.len() <= MAX_ORIGINS)
}

impl Usual {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { subjects: Keyed::new(max_bytes), evicted: 0 }
    }

    pub(super) fn subjects(&self) -> usize {
        self.subjects.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.subjects.bytes()
    }

    pub(super) fn evicted(&self) -> u64 {
        self.subjects.evicted() + self.evicted
    }

    pub(super) fn changed(&self) -> usize {
        self.subjects.changed()
    }

    pub(super) fn write_changes(&mut self, changes: &mut Changes) {
        self.subjects.write_changes(Store::Usual, changes, plain);
    }

    pub(super) fn restore(&mut self, subjects: Vec<Restored<'_, StateKey, Habits>>) {
        self.subjects.restore(subjects);
    }

    pub(super) fn expire(&mut self, stream_time: UnixMs) {
        self.subjects.expire(stream_time, |_| None);
    }

    /// Notes the day of a use, and gives the subject's habits. A use that was refused is no habit: whoever holds a token
    /// that is good for nothing any more can be refused anywhere, as often as wanted.
    pub(super) fn note(&mut self, subject: StateKey, used: &Use<'_>) -> Option<&Habits> {
        let (origin, time) = (used.site.origin_key(), used.seen.time);
        let day = day_of(time.get());
        let known = self.subjects.get(&subject).is_some_and(|habits| habits.know(origin, day));
        if used.accepted && !known {
            let expires = UnixMs::new(time.get() + REMEMBER_MS);
            let evicted = &mut self.evicted;
            self.subjects.change(subject, used.tenant, expires, Habits::default, |habits| {
                *evicted += u64::from(habits.add(origin, day));
            });
        }
        self.subjects.get(&subject)
    }
}

impl Habits {
    fn days(&self, origin: OriginKey) -> u64 {
        self.origins.iter().find(|habit| habit.origin == origin).map_or(0, |habit| habit.days)
    }

    fn know(&self, origin: OriginKey, day: i64) -> bool {
        self.days(origin) & self.bit(day) != 0
    }

    /// 0 for a day that is not kept.
    fn bit(&self, day: i64) -> u64 {
        match u32::try_from(self.newest - day) {
            Ok(age) if age < KEPT_DAYS => 1 << age,
            _ => 0,
        }
    }

    /// Notes a use on that day; gives whether another origin had to make room.
    fn add(&mut self, origin: OriginKey, day: i64) -> bool {
        self.begin(day);
        let bit = self.bit(day);
        if let Some(habit) = self.origins.iter_mut().find(|habit| habit.origin == origin) {
            habit.days |= bit;
            return false;
        }
        if bit == 0 {
            return false;
        }
        let habit = Habit { origin, days: bit };
        if self.origins.len() < MAX_ORIGINS {
            // Most subjects have one or two.
            self.origins.reserve_exact(1);
            self.origins.push(habit);
            return false;
        }
        // The one that says least: of the fewest days, and of those the one left longest.
        let weakest = self
            .origins
            .iter_mut()
            .min_by_key(|habit| (habit.days.count_ones(), Reverse(habit.days.trailing_zeros())));
        if let Some(weakest) = weakest {
            *weakest = habit;
        }
        true
    }

    /// Lets days pass until `day` is not beyond the newest.
    fn begin(&mut self, day: i64) {
        let Some(passed) = u32::try_from(day - self.newest).ok().filter(|passed| *passed > 0) else { return };
        self.newest = day;
        for habit in &mut self.origins {
            habit.days = habit.days.checked_shl(passed).unwrap_or(0) & ((1 << KEPT_DAYS) - 1);
        }
        self.origins.retain(|habit| habit.days != 0);
        self.origins.shrink_to_fit();
    }

    /// Whether the origin is usual at every time from `first` to `last`: by the days that count for all of them.
    pub(super) fn are_usual(&self, origin: OriginKey, first: UnixMs, last: UnixMs) -> bool {
        let settled = day_of(first.get() - LATENESS_MS - 1);
        let counted =
            (day_of(last.get()) - LAST_DAYS..settled).map(|day| self.bit(day)).fold(0, |all, bit| all | bit);
        (self.days(origin) & counted).count_ones() >= USUAL_DAYS
    }
}

/// Days of UTC since the epoch.
const fn day_of(ms: i64) -> i64 {
    ms.div_euclid(DAY_MS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pipeline::detect::tests::property::runner;

    const A: OriginKey = OriginKey::numbered(1);

    fn time(day: i64, minutes: i64) -> UnixMs {
        UnixMs::new(day * DAY_MS + minutes * 60_000)
    }

    fn habits(days: impl IntoIterator<Item = (u64, i64)>) -> (Habits, u64) {
        let (mut habits, mut evicted) = (Habits::default(), 0);
        for (origin, day) in days {
            evicted += u64::from(habits.add(OriginKey::numbered(origin), day));
        }
        (habits, evicted)
    }

    #[test]
    fn three_of_the_last_thirty_days_that_are_over() {
        let (habits, _) = habits([(1, 1_000), (1, 1_010), (1, 1_029)]);
        for (day, minutes, usual) in [
            // The third day is not over, or it is not ten minutes ago that it was.
            (1_029, 1_439, false),
            (1_030, 0, false),
            (1_030, 10, false),
            (1_030, 11, true),
            // The first is the thirtieth before.
            (1_030, 1_439, true),
            (1_031, 0, false),
        ] {
            let at = time(day, minutes);
            assert_eq!(habits.are_usual(A, at, at), usual, "day {day}, minute {minutes}");
        }
        assert!(!habits.are_usual(OriginKey::numbered(2), time(1_030, 60), time(1_030, 60)));
    }

    #[test]
    fn a_day_counts_if_it_does_for_the_whole_range() {
        let (habits, _) = habits([(1, 1_000), (1, 1_010), (1, 1_028), (1, 1_030)]);
        for (first, last, usual) in [
            ((1_030, 5), (1_030, 1_000), true),
            ((1_030, 5), (1_031, 5), false),
            ((1_031, 11), (1_031, 1_000), true),
            ((1_031, 5), (1_031, 1_000), false),
        ] {
            let [first, last] = [first, last].map(|(day, minutes)| time(day, minutes));
            assert_eq!(habits.are_usual(A, first, last), usual, "{first} to {last}");
        }
    }

    #[test]
    fn of_nine_origins_the_one_with_the_fewest_days_makes_room_and_of_those_the_oldest() {
        let steady = (1..=6).flat_map(|origin| (0..5).map(move |day| (origin, 1_000 + day)));
        let (habits, evicted) = habits(steady.chain([(7, 1_005), (8, 1_006), (9, 1_007)]));
        let known: Vec<u64> =
            (1..=9).filter(|&origin| habits.days(OriginKey::numbered(origin)) != 0).collect();
        assert_eq!((known, evicted), (vec![1, 2, 3, 4, 5, 6, 8, 9], 1));
    }

    #[test]
    fn what_is_too_old_to_count_is_let_go_of() {
        let (habits, _) = habits([(1, 1_000), (2, 1_020), (3, 1_000 + i64::from(KEPT_DAYS))]);
        assert_eq!((habits.origins.len(), habits.origins.capacity()), (2, 2));
        let (habits, _) = self::habits([(1, 1_000), (1, 1_000 - i64::from(KEPT_DAYS))]);
        assert_eq!(habits.days(A), 1);
        let (habits, _) = self::habits([(1, 1_000), (3, 9_000)]);
        assert_eq!(habits.origins.len(), 1);
    }

    /// The masks are the set of days, in whatever order they come.
    #[test]
    fn any_order_of_days_makes_the_same_habits() {
        let uses = prop::collection::vec((1..=8_u64, 0..32_i64), 0..60);
        let at = (0..34_i64, 0..1_440_i64, 0..1_440_i64);
        runner(1_000)
            .run(&(uses.clone().prop_shuffle(), at), |(uses, (day, from, to))| {
                let (habits, evicted) = habits(uses.iter().map(|&(origin, day)| (origin, 1_000 + day)));
                prop_assert_eq!(evicted, 0);
                let (first, last) = (time(1_000 + day, from.min(to)), time(1_000 + day, from.max(to)));
                for origin in 1..=8 {
                    let mut days: Vec<i64> =
                        uses.iter().filter(|used| used.0 == origin).map(|used| used.1).collect();
                    days.sort_unstable();
                    days.dedup();
                    let over = |used: &&i64| (**used + 1) * 1_440 + 10 < day * 1_440 + from.min(to);
                    let counted = days.iter().filter(|used| **used >= day - 30).filter(over).count();
                    prop_assert_eq!(habits.are_usual(OriginKey::numbered(origin), first, last), counted >= 3);
                }
                Ok(())
            })
            .unwrap();
    }
}
