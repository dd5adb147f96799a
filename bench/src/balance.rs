//! What it costs to choose an endpoint, and how many keys Maglev's table moves when endpoints change.

use std::fmt::Write;
use std::hint::black_box;

use portcullis::core::balance::{Candidate, LeastConnections, RoundRobin, at_random};
use portcullis::core::maglev::{Maglev, Place, hash};

use crate::Case;

pub fn cases() -> Vec<Case> {
    let choose = [4, 16, 256].into_iter().flat_map(choose);
    choose.chain([4, 20, 100, 1_000].map(build)).collect()
}

/// How evenly Maglev's table shares keys, and how many move when an endpoint goes: for people.
pub fn shares() -> String {
    let mut lines = String::new();
    for count in [4, 20, 100, 1_000] {
        let all = places(count);
        let less: Vec<_> = all.iter().copied().skip(1).collect();
        let (before, after) = (table(&all), table(&less));
        let moved = before.moved(&after, |at| all[at].id, |at| less[at].id);
        let shares = before.shares();
        let most = shares.iter().fold(0.0f64, |most, share| most.max(*share));
        writeln!(
            lines,
            "{count} endpoints: one that goes moves {:.2} % of the keys, of which {:.2} % had to; \
             the largest share is {:.3} of the mean",
            moved * 100.0,
            shares[0] * 100.0,
            most * count as f64
        )
        .expect("a text takes text");
    }
    lines
}

fn choose(count: u32) -> [Case; 4] {
    let endpoint = |at: u32| Candidate { weight: 1 + at % 3, active: at * 7 % 32 };
    let endpoints: Vec<_> = (0..count).map(endpoint).collect();
    let (by_turn, by_load, by_chance) = (endpoints.clone(), endpoints.clone(), endpoints);
    let (mut robin, mut least) = (RoundRobin::new(0), LeastConnections::new(0));
    let (mut one, mut another, mut key) = (random(), random(), random());
    let table = table(&places(count as usize));
    let name = |policy| format!("balance/{count}_endpoints/{policy}");
    [
        Case::new(name("round_robin"), move || robin.choose(black_box(&by_turn))),
        Case::new(name("least_connections"), move || least.choose(black_box(&by_load), one())),
        Case::new(name("random"), move || at_random(black_box(&by_chance), another())),
        Case::new(name("maglev"), move || table.choose(key(), |_| true)),
    ]
}

/// Control does this when endpoints change, and workers never.
fn build(count: usize) -> Case {
    let all = places(count);
    let case = Case::new(format!("maglev/build/{count}_endpoints"), move || {
        Maglev::build(black_box(&all))
    });
    if count == 20 { case } else { case.timed_only() }
}

fn random() -> impl FnMut() -> u64 {
    let mut random = 1u64;
    move || {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        hash(&random.to_be_bytes())
    }
}

fn places(count: usize) -> Vec<Place> {
    let place = |at: usize| {
        let address = format!("10.0.{}.{}:6432", at / 256, at % 256);
        Place { id: hash(address.as_bytes()), weight: 1 }
    };
    (0..count).map(place).collect()
}

fn table(places: &[Place]) -> Maglev {
    Maglev::build(places).expect("there are endpoints")
}
