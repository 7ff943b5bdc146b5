//! Attacks: what a thief, a careless client or a careless gateway does, each with its label.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::RngExt;
use rand::rngs::StdRng;

use super::people::Person;
use super::world::{Line, World};
use super::{Label, Simulated, seeded_ref};
use crate::model::{Extra, NetworkKind, RuleId, UnixMs};

/// What may be done to somebody.
#[derive(Clone, Copy, Debug)]
enum Attack {
    /// The token is used from a far city, on another device, minutes after its owner used it at home.
    StolenAbroad,
    /// The token is used from a cloud in the victim's own city, on another device.
    StolenNearby,
    /// One token in many hands: as many origins as `shared_token` counts.
    Shared,
    /// The gateway wrote a token into a field of its own.
    GatewayLeak,
    /// The client put a token where it does not belong.
    ClientLeak,
}

const ATTACKS: [Attack; 5] =
    [Attack::StolenAbroad, Attack::StolenNearby, Attack::Shared, Attack::GatewayLeak, Attack::ClientLeak];

/// Attacks begun, and the events they still have to send.
pub(super) struct Attacks {
    world: World,
    begun: usize,
    due: VecDeque<Move>,
}

/// One event of an attack.
struct Move {
    time: UnixMs,
    /// Index of the victim.
    victim: usize,
    act: Act,
    labels: Vec<Label>,
}

enum Act {
    /// The victim's own use at home: the other end of the journey.
    AtHome,
    Elsewhere(std::net::IpAddr),
    TokenInGatewayField,
    TokenInUserAgent,
}

impl Attacks {
    pub(super) const fn new(world: World) -> Self {
        Self { world, begun: 0, due: VecDeque::new() }
    }

    /// Plans the next kind of attack on somebody; its events come out of [`Attacks::due`].
    pub(super) fn begin(&mut self, time: UnixMs, people: &[Person], rng: &mut StdRng) {
        let Some(victim) = plain_victim(people, rng) else { return };
        let attack = ATTACKS[self.begun % ATTACKS.len()];
        self.begun += 1;
        let person = &people[victim];
        let label = |rule, who: &str| Label {
            rule,
            tenant: person.tenant.clone(),
            who: who.to_owned(),
            from: time,
            to: time + Duration::from_secs(60),
        };
        let at = |seconds| time + Duration::from_secs(seconds);
        let home = Move { time, victim, act: Act::AtHome, labels: Vec::new() };
        let moves = match attack {
            Attack::StolenAbroad => {
                let far = self.world.city_far_from(person.home(), rng);
                let ip = far.address(Line::Fixed(NetworkKind::Access), rng.random());
                let labels = vec![
                    label(RuleId::ImpossibleTravel, &person.sub),
                    label(RuleId::TokenReplay, &person.sub),
                ];
                vec![home, Move { time: at(2), victim, act: Act::Elsewhere(ip), labels }]
            }
            Attack::StolenNearby => {
                let ip = person.home().address(Line::Fixed(NetworkKind::Hosting), rng.random());
                let labels = vec![label(RuleId::TokenReplay, &person.sub)];
                vec![home, Move { time: at(2), victim, act: Act::Elsewhere(ip), labels }]
            }
            Attack::Shared => {
                let mut moves = vec![home];
                for hand in 0..5 {
                    let city = self.world.nth_city(hand);
                    let ip = city.address(Line::Fixed(NetworkKind::Access), rng.random());
                    let last = [RuleId::SharedToken, RuleId::TokenReplay, RuleId::ImpossibleTravel];
                    let labels = if hand == 4 {
                        last.map(|rule| label(rule, &person.sub)).to_vec()
                    } else {
                        Vec::new()
                    };
                    moves.push(Move { time: at(2 + hand as u64), victim, act: Act::Elsewhere(ip), labels });
                }
                moves
            }
            Attack::GatewayLeak => {
                let labels = vec![label(RuleId::TokenLeak, "edge-1")];
                vec![Move { time, victim, act: Act::TokenInGatewayField, labels }]
            }
            Attack::ClientLeak => {
                let labels = vec![label(RuleId::TokenInRequest, "web")];
                vec![Move { time, victim, act: Act::TokenInUserAgent, labels }]
            }
        };
        self.due.extend(moves);
        self.due.make_contiguous().sort_by_key(|next| next.time);
    }

    /// The next event of an attack, if it is due by `time`.
    pub(super) fn due(&mut self, time: UnixMs, people: &mut [Person], rng: &mut StdRng) -> Option<Simulated> {
        let next = self.due.pop_front_if(|next| next.time <= time)?;
        let person = &mut people[next.victim];
        person.renew(next.time, rng);
        let event = match next.act {
            Act::AtHome => person.event(next.time, person.home_address(), person.user_agent(), rng),
            Act::Elsewhere(ip) => person.event(next.time, ip, person.other_user_agent(), rng),
            Act::TokenInUserAgent => {
                let user_agent = format!("curl/8.11 Bearer {}", made_up_token(rng));
                person.event(next.time, person.home_address(), &user_agent, rng)
            }
            Act::TokenInGatewayField => {
                let mut event = person.event(next.time, person.home_address(), person.user_agent(), rng);
                let members = [("authorization".to_owned(), made_up_token(rng).into())];
                event.extra = Some(Extra(members.into_iter().collect()));
                event
            }
        };
        Some(Simulated { event, labels: next.labels })
    }
}

/// Somebody whose own habits leave no doubt that it was an attack.
fn plain_victim(people: &[Person], rng: &mut StdRng) -> Option<usize> {
    (0..1_000).map(|_| rng.random_range(0..people.len())).find(|victim| people[*victim].is_plain())
}

/// A text in the shape of a JWS. Nobody signed it.
fn made_up_token(rng: &mut StdRng) -> String {
    let part = |json: &str| URL_SAFE_NO_PAD.encode(json);
    let payload = part(&format!(r#"{{"jti":"{}"}}"#, seeded_ref(rng)));
    format!("{}.{payload}.{}", part(r#"{"alg":"ES256","typ":"at+jwt"}"#), seeded_ref(rng))
}
