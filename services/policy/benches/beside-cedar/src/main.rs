//! What the engine costs: `cargo bench -p writ-policy`.
//!
//! One line a figure: `figure NAME VALUE UNIT`, the size of the network in the name. Times are the quickest of several
//! rounds: what else runs on the machine only ever adds. Allocations and instructions do not jitter. Beside the engine, in the
//! same run, the `cedar-policy` crate decides the same requests, and both have to agree.
//!
//! `cargo bench -p writ-policy -- 10000x500` measures one size only. Instructions of a decision are counted where `valgrind`
//! is installed.

mod cedar;
mod generator;
mod instructions;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use cedar::Cedar;
use generator::Numbers;
use writ_policy::{Compiled, Inventory, Policy, Protocol, difference};
use writ_schema::NodeId;

/// Nodes and rules of each network.
const NODES: [usize; 4] = [100, 1_000, 10_000, 100_000];
const RULES: [usize; 3] = [50, 500, 5_000];

/// The size that the aims are stated for.
const AIM: (usize, usize) = (10_000, 500);

/// Cedar goes through every rule for every request, and reads its policies slowly: more than this takes minutes.
const CEDAR_MOST_RULES: usize = 500;

/// Pairs of classes grow with the square of the network: beyond this a difference takes minutes.
const DIFFERENCE_MOST: usize = 10_000 * 5_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [mode, count] = arguments.as_slice()
        && mode == instructions::MODE
    {
        return instructions::work(count.parse().unwrap_or(0));
    }
    for (nodes, rules) in NODES.into_iter().flat_map(|nodes| RULES.map(|rules| (nodes, rules))) {
        let size = format!("{nodes}x{rules}");
        if arguments.is_empty() || arguments.contains(&size) {
            let network = Network::new(nodes, rules);
            if let Err(error) = network.run(&size, (nodes, rules)) {
                println!("{size}: {error}");
            }
        }
    }
    match instructions::per_decision() {
        Ok(count) => figure("decide_instructions/10000x500", count, "instructions"),
        Err(reason) => println!("instructions were not counted: {reason}"),
    }
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.2} {unit}");
}

fn time(name: &str, took: Duration, unit: &str) {
    let value = match unit {
        "ns" => took.as_secs_f64() * 1e9,
        "us" => took.as_secs_f64() * 1e6,
        _ => took.as_secs_f64() * 1e3,
    };
    figure(name, value, unit);
}

/// The result and the time of the quickest of several rounds.
fn quickest<T>(rounds: usize, mut work: impl FnMut() -> T) -> (T, Duration) {
    let mut round = || {
        let start = Instant::now();
        let result = black_box(work());
        (result, start.elapsed())
    };
    let mut best = round();
    for _ in 1..rounds {
        let next = round();
        if next.1 < best.1 {
            best = next;
        }
    }
    best
}

/// A network, its policy, and requests to decide.
pub struct Network {
    inventory: Inventory,
    policy: serde_json::Value,
}

type Asked<'a> = (&'a NodeId, &'a NodeId, u16);

impl Network {
    /// Makes up a network.
    pub fn new(nodes: usize, rules: usize) -> Self {
        let inventory = generator::inventory(nodes, rules);
        let policy = generator::policy(inventory.users.len(), rules);
        Self { inventory, policy }
    }

    /// The policy, read and compiled.
    pub fn compiled(&self) -> Result<Compiled, String> {
        let policy = Policy::parse(&self.policy.to_string()).map_err(|error| error.to_string())?;
        Compiled::new(Arc::new(policy), &self.inventory).map_err(|error| error.to_string())
    }

    /// Requests between nodes that are taken at random.
    pub fn requests(&self, count: usize) -> Vec<Asked<'_>> {
        let mut numbers = Numbers(7);
        let nodes = &self.inventory.nodes;
        let mut requests = Vec::with_capacity(count);
        while requests.len() < count {
            let pair = (nodes.get(numbers.below(nodes.len())), nodes.get(numbers.below(nodes.len())));
            let port = [22, 80, 443, 5432].get(numbers.below(4)).copied().unwrap_or(22);
            if let (Some(src), Some(dst)) = pair {
                requests.push((&src.id, &dst.id, port));
            }
        }
        requests
    }

    fn run(&self, size: &str, (nodes, rules): (usize, usize)) -> Result<(), String> {
        let rounds = if nodes > 10_000 { 1 } else { 3 };
        let name = |what: &str| format!("{what}/{size}");
        let text = self.policy.to_string();
        let (policy, parse) = quickest(rounds, || Policy::parse(&text));
        let policy = Arc::new(policy.map_err(|error| error.to_string())?);
        time(&name("parse"), parse, "ms");
        let (compiled, compile) = quickest(rounds, || Compiled::new(Arc::clone(&policy), &self.inventory));
        let mut compiled = compiled.map_err(|error| error.to_string())?;
        time(&name("compile"), compile, "ms");
        let mut held = None;
        let allocated = measure(|| held = Compiled::new(Arc::clone(&policy), &self.inventory).ok());
        figure(&name("compile_allocations"), allocated.count_total as f64, "allocations");
        figure(&name("memory"), allocated.bytes_current as f64 / nodes as f64, "bytes/node");
        figure(&name("profiles"), compiled.profile_count() as f64, "profiles");
        let decide = self.decisions(&compiled, &name);
        self.filters(&compiled, &name);
        if nodes * rules <= DIFFERENCE_MOST {
            self.differences(&compiled, rules, &name)?;
        }
        self.changes(&mut compiled, &name)?;
        if rules <= CEDAR_MOST_RULES && nodes <= AIM.0 {
            self.beside_cedar(&compiled, decide, &name)?;
        }
        drop(held);
        Ok(())
    }

    /// The time of one decision.
    fn decisions(&self, compiled: &Compiled, name: &dyn Fn(&str) -> String) -> Duration {
        let requests = self.requests(20_000);
        let decide = |requests: &[Asked<'_>]| {
            requests
                .iter()
                .filter(|(src, dst, port)| compiled.permits(src, dst, Protocol::Tcp, *port).is_some())
                .count()
        };
        let (allowed, took) = quickest(20, || decide(&requests));
        let each = took / u32::try_from(requests.len()).unwrap_or(u32::MAX);
        time(&name("decide"), each, "ns");
        figure(&name("decide_allowed"), 100.0 * allowed as f64 / requests.len() as f64, "%");
        let allocated = measure(|| {
            black_box(decide(&requests));
        });
        figure(
            &name("decide_allocations"),
            allocated.count_total as f64 / requests.len() as f64,
            "allocations",
        );
        each
    }

    fn filters(&self, compiled: &Compiled, name: &dyn Fn(&str) -> String) {
        let Some(node) = self.inventory.nodes.last() else { return };
        let (_, filter) = quickest(3, || compiled.filter(&node.id));
        time(&name("filter"), filter, "us");
        let (_, peers) = quickest(3, || compiled.peers(&node.id));
        time(&name("peers"), peers, "us");
    }

    /// What it costs to compare with a policy that lacks one rule.
    fn differences(
        &self,
        compiled: &Compiled,
        rules: usize,
        name: &dyn Fn(&str) -> String,
    ) -> Result<(), String> {
        let mut policy = self.policy.clone();
        if let Some(acls) = policy["acls"].as_array_mut() {
            acls.remove(rules / 2);
        }
        let other = Network { policy, inventory: self.inventory.clone() }.compiled()?;
        let (change, took) = quickest(1, || difference(compiled, &other));
        time(&name("difference"), took, "ms");
        figure(&name("difference_changes"), (change.gained.len() + change.lost.len()) as f64, "changes");
        Ok(())
    }

    /// What it costs to take over one node or one group that changed.
    fn changes(&self, compiled: &mut Compiled, name: &dyn Fn(&str) -> String) -> Result<(), String> {
        let Some(node) = self.inventory.nodes.get(self.inventory.nodes.len() / 2) else { return Ok(()) };
        let (_, one) = quickest(20, || compiled.insert_node(node));
        time(&name("change_node"), one, "us");
        let mut policy = self.policy.clone();
        if let Some(members) = policy["groups"]["group:g0"].as_array_mut() {
            members.pop();
        }
        let read = |policy: &serde_json::Value| {
            Policy::parse(&policy.to_string()).map(Arc::new).map_err(|error| error.to_string())
        };
        let (with, without) = (read(&self.policy)?, read(&policy)?);
        let (result, group) = quickest(5, || {
            let there = compiled.change_policy(Arc::clone(&without));
            there.and_then(|()| compiled.change_policy(Arc::clone(&with)))
        });
        result.map_err(|error| error.to_string())?;
        time(&name("change_group"), group / 2, "us");
        Ok(())
    }

    fn beside_cedar(
        &self,
        compiled: &Compiled,
        decide: Duration,
        name: &dyn Fn(&str) -> String,
    ) -> Result<(), String> {
        let cedar = Cedar::new(&self.policy, &self.inventory)?;
        let asked = self.requests(500);
        let made = asked.iter().map(|(src, dst, port)| cedar.request(src, dst, *port));
        let requests = made.collect::<Result<Vec<_>, _>>()?;
        for ((src, dst, port), request) in asked.iter().zip(&requests) {
            let ours = compiled.permits(src, dst, Protocol::Tcp, *port).is_some();
            // A node reaches itself without asking; Cedar is not told so.
            if src != dst && ours != cedar.permits(request) {
                return Err(format!("Cedar and the engine disagree on {src} -> {dst}:{port}"));
            }
        }
        let (_, took) = quickest(3, || requests.iter().filter(|request| cedar.permits(request)).count());
        let each = took / u32::try_from(requests.len()).unwrap_or(u32::MAX);
        time(&name("cedar_decide"), each, "ns");
        figure(&name("decide_rate_of_cedars"), each.as_secs_f64() / decide.as_secs_f64().max(1e-12), "x");
        Ok(())
    }
}
