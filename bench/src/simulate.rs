//! The throttle under attackers and beside owners, simulated: the real rules on a clock of its own, so that
//! a day takes seconds. Prints guesses checked in the busiest hour, and owners' logins that succeed.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Result, bail};
use clap::Args;
use passmint::config::{Config, Sources};
use passmint::domain::network::Network;
use passmint::domain::throttle::KnownOrigin;
use passmint::domain::time::Timestamp;
use passmint::service::throttle::KNOWN_FOR;
use passmint::throttle::{Admission, Door, LoginAttempt, LoginRules, Presented, Rate, Throttle};

/// Simulates attackers and owners of one account.
#[derive(Args)]
pub(crate) struct Options {
    /// Days of every attack; the slow one takes thirty.
    #[arg(long, default_value_t = 3)]
    days: i64,
    /// Fail when a bound is missed.
    #[arg(long)]
    check: bool,
}

const ACCOUNT: u64 = 1;
const RIGHT: u128 = 1;
const OWNERS_CLIENT: u64 = 1;
const OFFICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3600;
const START: i64 = 1_800_000_000;

/// How somebody guesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    Nobody,
    OneAddress,
    HangsUp,
    BesideTheOwner,
    AllBesideTheOwner,
    Sixty,
    TwoThousand,
    OneSlash48,
    AcrossAllUsers,
    SlowForAMonth,
    SlowAndNew,
    OwnersAddress,
    OwnersAddressAndClient,
}

const ATTACKS: [(Attack, &str); 13] = [
    (Attack::Nobody, "nobody"),
    (Attack::OneAddress, "one address"),
    (Attack::HangsUp, "one address, hanging up before half of the hashes begin"),
    (Attack::BesideTheOwner, "one address in the /24 of a working owner"),
    (Attack::AllBesideTheOwner, "all addresses of the owner's /24"),
    (Attack::Sixty, "60 /24s, all addresses"),
    (Attack::TwoThousand, "2,000 /24s, all addresses"),
    (Attack::OneSlash48, "one IPv6 /48"),
    (Attack::AcrossAllUsers, "one address across 1,000 users"),
    (Attack::SlowForAMonth, "30 /24s in turn, one guess in ten minutes, for a month"),
    (Attack::SlowAndNew, "a new /24 every ten minutes, for a month"),
    (Attack::OwnersAddress, "the owner's own address"),
    (Attack::OwnersAddressAndClient, "the owner's own address, with the owner's User-Agent"),
];

/// A generator of its own, so that every run is the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

#[derive(Default)]
struct Owner {
    tried: u32,
    succeeded: u32,
}

impl Owner {
    fn percent(&self) -> f64 {
        f64::from(self.succeeded) * 100.0 / f64::from(self.tried.max(1))
    }
}

struct Simulation {
    throttle: Throttle,
    rules: LoginRules,
    requests: Rate,
    /// From where the owner has logged in, and when last.
    known: HashMap<u64, Timestamp>,
    random: Random,
    now: i64,
    guess: u128,
    /// Seconds at which a guess was checked.
    checked: Vec<i64>,
}

impl Simulation {
    /// Under the settings' defaults.
    fn new() -> Result<Self> {
        let settings = Config::load(&Sources::default())?.throttle;
        Ok(Self {
            throttle: Throttle::default(),
            rules: settings.login_rules(),
            requests: settings.request_rate(),
            known: HashMap::new(),
            random: Random(7),
            now: START,
            guess: 1000,
            checked: Vec::new(),
        })
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now * SECOND)
    }

    fn known(&self, network: Network) -> KnownOrigin {
        let of_late = |at: &Timestamp| self.time().since(*at) < KNOWN_FOR;
        let near =
            |number: &u64| Network::from_number(*number).neighbourhood() == network.neighbourhood();
        KnownOrigin {
            network: self.known.get(&network.number()).is_some_and(of_late),
            neighbourhood: self.known.iter().any(|(number, at)| near(number) && of_late(at)),
        }
    }

    fn attempt(&self, account: u64, address: IpAddr, presented: Presented) -> LoginAttempt {
        let network = Network::of(address);
        let known = if account == ACCOUNT { self.known(network) } else { KnownOrigin::default() };
        LoginAttempt { account, network, known: Some(known), presented }
    }

    /// One guess that no other repeats; `hangs_up`: before its hash begins.
    fn guess(&mut self, account: u64, address: IpAddr, client: u64, hangs_up: bool) {
        let now = self.time();
        if self.throttle.request(Door::TokenAuth, address, &self.requests, now).is_err() {
            return;
        }
        self.guess += 1;
        let presented = Presented { credentials: self.guess, client };
        let attempt = self.attempt(account, address, presented);
        if let Admission::Granted(admitted) = self.throttle.admit(&attempt, &self.rules, now)
            && !hangs_up
        {
            admitted.failed(now);
            if account == ACCOUNT {
                self.checked.push(self.now);
            }
        }
    }

    /// The owner logs in with the right password; whether that was let through. `noted`: it becomes a
    /// login like any other, and not only a question.
    fn log_in(&mut self, address: IpAddr, owner: &mut Owner, noted: bool) {
        let now = self.time();
        let presented = Presented { credentials: RIGHT, client: OWNERS_CLIENT };
        let attempt = self.attempt(ACCOUNT, address, presented);
        owner.tried += 1;
        if let Admission::Granted(admitted) = self.throttle.admit(&attempt, &self.rules, now) {
            owner.succeeded += 1;
            if noted {
                admitted.succeeded(now);
                self.known.insert(Network::of(address).number(), now);
            }
        }
    }

    /// What an attacker sends in one second.
    fn attack(&mut self, attack: Attack) {
        let second = self.now - START;
        let v4 = |a: u8, b: u8, c: u8, d: u8| IpAddr::from(Ipv4Addr::new(a, b, c, d));
        let one = v4(203, 0, 113, 5);
        for _ in 0..20 {
            let any = self.random.below(1 << 20);
            let [low, high, ..] = any.to_le_bytes();
            match attack {
                Attack::Nobody => {}
                Attack::OneAddress => self.guess(ACCOUNT, one, 9, false),
                Attack::HangsUp => self.guess(ACCOUNT, one, 9, any.is_multiple_of(2)),
                Attack::BesideTheOwner => self.guess(ACCOUNT, v4(198, 51, 100, 200), 9, false),
                Attack::AllBesideTheOwner => {
                    let host = if low == 7 { 8 } else { low };
                    self.guess(ACCOUNT, v4(198, 51, 100, host), 9, false);
                }
                Attack::Sixty => self.guess(ACCOUNT, v4(10, 0, high % 60, low), 9, false),
                Attack::TwoThousand => {
                    let [third, second, ..] = self.random.below(2000).to_le_bytes();
                    self.guess(ACCOUNT, v4(10, second, third, low), 9, false);
                }
                Attack::OneSlash48 => {
                    let network = u128::from(any % 65_536) << 64;
                    let prefix = 0x2001_0db8_0001_u128 << 80;
                    self.guess(ACCOUNT, Ipv6Addr::from_bits(prefix | network).into(), 9, false);
                }
                Attack::AcrossAllUsers => self.guess(1 + any % 1000, one, 9, false),
                Attack::SlowForAMonth | Attack::SlowAndNew => {
                    if second % 600 == 0 {
                        let turns = if attack == Attack::SlowAndNew { i64::MAX } else { 30 };
                        let [third, second_, ..] = (second / 600 % turns).to_le_bytes();
                        self.guess(ACCOUNT, v4(10, second_, third, 1), 9, false);
                    }
                    return;
                }
                Attack::OwnersAddress => self.guess(ACCOUNT, OFFICE.into(), 9, false),
                Attack::OwnersAddressAndClient => {
                    self.guess(ACCOUNT, OFFICE.into(), OWNERS_CLIENT, false);
                }
            }
        }
    }

    /// Guesses checked in the busiest hour.
    fn busiest_hour(&self) -> usize {
        let of = |first: usize| {
            let start = self.checked.get(first).copied().unwrap_or(0);
            self.checked.iter().skip(first).take_while(|at| **at < start + HOUR).count()
        };
        (0..self.checked.len()).map(of).max().unwrap_or(0)
    }
}

/// What came of one attack.
struct Row {
    name: &'static str,
    attack: Attack,
    guesses: usize,
    office: Owner,
    every_call: Owner,
    phone: Owner,
    newcomer: Owner,
}

/// Where a phone is: mostly where it has been before.
fn phones_network(random: &mut Random) -> IpAddr {
    let [host, ..] = random.below(250).to_le_bytes();
    if random.below(100) < 4 {
        let [a, b, ..] = random.below(60_000).to_le_bytes();
        return Ipv4Addr::new(100, a, b, host).into();
    }
    let [pool, ..] = random.below(12).to_le_bytes();
    Ipv4Addr::new(192, 0, pool, host).into()
}

fn simulate(attack: Attack, name: &'static str, days: i64) -> Result<Row> {
    let mut sim = Simulation::new()?;
    let (mut office, mut every_call, mut phone) =
        (Owner::default(), Owner::default(), Owner::default());
    let mut ignored = Owner::default();
    // A history: the office, and where the phone has been.
    sim.log_in(OFFICE.into(), &mut ignored, true);
    for pool in 0..12 {
        sim.log_in(Ipv4Addr::new(192, 0, pool, 1).into(), &mut ignored, true);
    }
    // A newcomer has no history: the same attack on an account without one.
    let mut fresh = Simulation::new()?;
    let mut newcomer = Owner::default();
    let slow = matches!(attack, Attack::SlowForAMonth | Attack::SlowAndNew);
    let days = if slow { 30 } else { days };
    for second in 0..days * 24 * HOUR {
        (sim.now, fresh.now) = (START + second, START + second);
        sim.attack(attack);
        fresh.attack(attack);
        if second % 10 == 0 && !slow {
            sim.log_in(OFFICE.into(), &mut every_call, true);
        }
        if second % 1800 == 900 {
            // A typing error now and then.
            if sim.random.below(100) < 3 {
                sim.guess(ACCOUNT, OFFICE.into(), OWNERS_CLIENT, false);
                sim.checked.pop();
            }
            sim.log_in(OFFICE.into(), &mut office, true);
        }
        if second % 600 == 300 {
            let network = phones_network(&mut sim.random);
            sim.log_in(network, &mut phone, true);
        }
        if second % 300 == 150 {
            let [a, b, c, _, ..] = fresh.random.below(1 << 24).to_le_bytes();
            fresh.log_in(Ipv4Addr::new(100, a, b, c).into(), &mut newcomer, false);
        }
    }
    let guesses = sim.busiest_hour().max(fresh.busiest_hour());
    Ok(Row { name, attack, guesses, office, every_call, phone, newcomer })
}

/// Runs all and prints a Markdown table.
pub(crate) fn run(options: &Options) -> Result<std::process::ExitCode> {
    println!(
        "| attacker | guesses checked in the busiest hour | office | login before every call | phone | newcomer |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut missed = Vec::new();
    for (attack, name) in ATTACKS {
        let row = simulate(attack, name, options.days)?;
        let percent = |owner: &Owner| match owner.tried {
            0 => "-".to_owned(),
            _ => format!("{:.1} %", owner.percent()),
        };
        println!(
            "| {} | {} | {} | {} | {} | {} |",
            row.name,
            row.guesses,
            percent(&row.office),
            percent(&row.every_call),
            percent(&row.phone),
            percent(&row.newcomer)
        );
        missed.extend(misses(&row));
    }
    if options.check && !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(std::process::ExitCode::SUCCESS)
}

/// Bounds that a row misses. On the owner's own address with the owner's client nothing is promised but
/// the guesses; of a flood of new neighbourhoods a newcomer cannot be told apart.
fn misses(row: &Row) -> Vec<String> {
    let mut missed = Vec::new();
    let mut least = |what: &str, owner: &Owner, bound: f64| {
        if owner.tried > 0 && owner.percent() < bound {
            missed.push(format!("{}: {what} {:.1} %", row.name, owner.percent()));
        }
    };
    if row.attack != Attack::OwnersAddressAndClient {
        least("office", &row.office, 99.0);
        least("login before every call", &row.every_call, 99.0);
    }
    if !matches!(row.attack, Attack::TwoThousand | Attack::SlowAndNew) {
        least("phone", &row.phone, 95.0);
        least("newcomer", &row.newcomer, 95.0);
    }
    if row.guesses > 120 {
        missed.push(format!("{}: {} guesses in an hour", row.name, row.guesses));
    }
    missed
}
