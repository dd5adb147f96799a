//! Owns the command `doctor`: what this host allows the generator, and what `--rate` can be
//! trusted here. Changes nothing. Read `environment.rs` for where the numbers come from.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::environment::{self, Environment};
use crate::exit::Exit;
use crate::quantity::{self, float, show_micros};
use crate::{clock, crypto, output};

/// Print this host's ceilings, and what --rate can be trusted
#[derive(Debug, Clone, Args)]
pub struct Doctor {}

impl Doctor {
    /// Prints.
    ///
    /// # Errors
    /// No cryptography.
    pub fn execute(&self) -> Result<Exit> {
        let env = Environment::look(Vec::new());
        let descriptors = environment::raise_descriptor_limit();
        let ports = environment::port_count();
        let reuse = read("/proc/sys/net/ipv4/tcp_tw_reuse");
        let backlog = read("/proc/sys/net/core/somaxconn");
        let waiting = read("/proc/sys/net/ipv4/tcp_max_tw_buckets");
        output::line(format_args!("kernel        {}", env.kernel));
        output::line(format_args!("processor     {}, {} usable", env.cpu, env.cores));
        output::line(format_args!("governor      {}", env.governor));
        output::line(format_args!("load          {:.2} over the last minute", env.loadavg));
        output::line(format_args!(
            "descriptors   {descriptors}: at most {} connections",
            descriptors.saturating_sub(64)
        ));
        output::line(format_args!(
            "ports         {ports} per source address, each kept 60 s after an active close: {:.0}/s from one address (tcp_tw_reuse {reuse})",
            float(ports) / 60.0
        ));
        output::line(
            "sources       127.9.0.0/16 for loopback targets: ports do not limit; see --source",
        );
        output::line(format_args!(
            "backlog       {backlog} waiting for accept; {waiting} in TIME_WAIT"
        ));
        let late = sleep_error();
        output::line(format_args!(
            "timer         1 ms sleeps end {} late (worst of {SLEEPS})",
            show_micros(late)
        ));
        let costs = crypto::measure_default(CRYPTO_ROUNDS)?;
        let full = costs.full.client_us + KERNEL_US;
        let resumed = costs.resumed.client_us + KERNEL_US;
        output::line(format_args!(
            "client cost   {:.0} us per full handshake, {:.0} us resumed, of which about {KERNEL_US:.0} us kernel",
            full, resumed
        ));
        // A thread above 70 % cannot serve bursts in time.
        output::line(format_args!(
            "trust --rate  up to {:.0}/s full, {:.0}/s resumed per load thread on a core of its own",
            0.7e6 / full,
            0.7e6 / resumed
        ));
        for complaint in complaints(&env, descriptors, late) {
            output::line(format_args!("warning       {complaint}"));
        }
        Ok(Exit::Met)
    }
}

fn complaints(env: &Environment, descriptors: u64, late: f64) -> Vec<String> {
    let mut found = Vec::new();
    if env.loadavg > 0.5 * float(env.cores as u64) {
        found.push("other work is running: results will scatter".to_owned());
    }
    if env.cores < 2 {
        found.push("one core: generator and server share it".to_owned());
    }
    if descriptors < 10_000 {
        found.push("few descriptors: raise them with ulimit -n".to_owned());
    }
    if env.governor == "powersave" {
        found.push("the frequency governor saves power: set it to performance".to_owned());
    }
    if late > 5_000.0 {
        found.push("timers are late: an open loop will be behind schedule".to_owned());
    }
    found
}

fn sleep_error() -> f64 {
    let wanted = Duration::from_millis(1);
    let worst = (0..SLEEPS)
        .map(|_| {
            let start = clock::now();
            clock::sleep(wanted);
            clock::now().duration_since(start).saturating_sub(wanted)
        })
        .max();
    float(quantity::micros(worst.unwrap_or_default()))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

const SLEEPS: u32 = 50;
const CRYPTO_ROUNDS: u32 = 100;
/// Socket, connect, 2 sends, 3 receives, 4 epoll calls, shutdown and close on loopback: measured
/// as the difference between a run's generator CPU and `crypto`.
const KERNEL_US: f64 = 60.0;
