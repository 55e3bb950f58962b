//! The arguments of every command.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tercet::base::units::{parse_duration_ns, parse_size_bytes};

/// A replicated, durable event log: three nodes, one log, one binary.
#[derive(Parser)]
#[command(name = "tercet", version, about, max_term_width = 110)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Show everything in under a minute: a three-node cluster, real events, a killed leader, proofs, latencies
    Demo(DemoOptions),
    /// Run a local cluster until Ctrl-C
    Dev(DevOptions),
    /// Write a new node's identity into its data directory
    Format(NodeOptions),
    /// Run one node
    Node(RunOptions),
    /// Publish each input line as one event
    Publish(PublishOptions),
    /// Print committed events in order
    Subscribe(SubscribeOptions),
    /// Ask nodes how they are
    Status(StatusOptions),
    /// Make a node the leader
    Transfer(TransferOptions),
    /// Show the members, or change them
    Member {
        /// What to do.
        #[command(subcommand)]
        command: MemberCommand,
    },
    /// Measure latency under an open-loop load
    Bench(BenchOptions),
    /// Read a stopped node's files
    Log {
        /// How.
        #[command(subcommand)]
        command: LogCommand,
    },
}

/// Reading a stopped node's files; nothing is changed.
#[derive(Subcommand)]
pub enum LogCommand {
    /// Check every byte
    Verify(LogOptions),
    /// Check every byte and print every entry
    Dump(LogOptions),
}

/// `tercet demo`.
#[derive(Args)]
pub struct DemoOptions {
    /// One JSON object instead of the report
    #[arg(long)]
    pub json: bool,
    /// Keep the nodes' directories and say where they are
    #[arg(long)]
    pub keep: bool,
    /// How long the load lasts
    #[arg(long, default_value = "8s", value_parser = parse_duration, hide = true)]
    pub load: Duration,
}

/// `tercet dev`.
#[derive(Args)]
pub struct DevOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=7))]
    pub nodes: u16,
    /// Formatted on first use and kept; a temporary one otherwise
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Clients connect to this port and the following ones; peers to a hundred above
    #[arg(long, default_value_t = 9001, value_parser = clap::value_parser!(u16).range(1..=65_000))]
    pub base_port: u16,
    /// What an acknowledgement means: disk or memory
    #[arg(long, default_value = "disk", value_parser = ["disk", "memory"])]
    pub durability: String,
    /// How agents are laid onto threads: auto, shared or dedicated
    #[arg(long, default_value = "auto", value_parser = ["auto", "shared", "dedicated"])]
    pub threads: String,
}

/// `tercet node` and `tercet format`.
#[derive(Args)]
pub struct NodeOptions {
    /// The settings (TOML)
    #[arg(long)]
    pub config: PathBuf,
    /// Overrides node_id
    #[arg(long)]
    pub node_id: Option<u16>,
    /// Overrides data_dir
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
}

/// `tercet node`.
#[derive(Args)]
pub struct RunOptions {
    /// Which node.
    #[command(flatten)]
    pub node: NodeOptions,
    /// Go on with what is left, and lose acknowledged events that no node has: where the node says that it may have
    /// lost what it acknowledged, and nobody is left to tell
    #[arg(long)]
    pub accept_loss: bool,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub die_with_parent: bool,
}

/// `tercet publish`.
#[derive(Args)]
pub struct PublishOptions {
    /// Client addresses, comma-separated; any of the cluster will do
    #[arg(long)]
    pub servers: String,
    /// The topic of every event
    #[arg(long)]
    pub topic: String,
    /// A file, or - for standard input
    #[arg(long, default_value = "-")]
    pub input: PathBuf,
    /// (NAME, sequence) is an event's identity: the same command run again adds nothing
    #[arg(long)]
    pub producer: Option<String>,
    /// The sequence of the first line
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub first_sequence: u64,
    /// Most events in flight
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: Option<u32>,
    /// Events a second, open loop
    #[arg(long, value_parser = parse_rate)]
    pub rate: Option<f64>,
    /// Give up when nothing is acknowledged for this long
    #[arg(long, default_value = "30s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// Gets a line `sequence offset` for each acknowledgement
    #[arg(long)]
    pub ack_log: Option<PathBuf>,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tercet subscribe`.
#[derive(Args)]
pub struct SubscribeOptions {
    /// Client addresses, comma-separated; with one, exactly that node is read
    #[arg(long)]
    pub servers: String,
    /// earliest, latest, or an offset
    #[arg(long, default_value = "earliest")]
    pub from: String,
    /// A topic, or a prefix ending in *
    #[arg(long, default_value = "*")]
    pub topic: String,
    /// Stop after so many events
    #[arg(long)]
    pub count: Option<u64>,
    /// Stop at what is committed now
    #[arg(long)]
    pub until_end: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `tercet status`.
#[derive(Args)]
pub struct StatusOptions {
    /// Client addresses, comma-separated
    #[arg(long)]
    pub servers: String,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tercet transfer`.
#[derive(Args)]
pub struct TransferOptions {
    /// Client addresses, comma-separated; any of the cluster will do
    #[arg(long)]
    pub servers: String,
    /// The id of the node that is to lead
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub to: u16,
    /// Give up after this long
    #[arg(long, default_value = "5s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// The cluster's members.
#[derive(Subcommand)]
pub enum MemberCommand {
    /// Show who belongs to the cluster, and how far each has come
    List(MemberListOptions),
    /// Make a learner a voter, once it has caught up
    Promote(MemberPromoteOptions),
    /// Let a node in whose disk was lost and formatted anew, and make it a voter once it has caught up
    Replace(MemberReplaceOptions),
}

/// `tercet member list`.
#[derive(Args)]
pub struct MemberListOptions {
    /// Client addresses, comma-separated; any of the cluster will do
    #[arg(long)]
    pub servers: String,
    /// Give up after this long
    #[arg(long, default_value = "5s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tercet member promote`.
#[derive(Args)]
pub struct MemberPromoteOptions {
    /// Client addresses, comma-separated; any of the cluster will do
    #[arg(long)]
    pub servers: String,
    /// The id of the node
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub node: u16,
    /// Give up after this long without progress
    #[arg(long, default_value = "30s", value_parser = parse_timeout)]
    pub timeout: Duration,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tercet member replace`.
#[derive(Args)]
pub struct MemberReplaceOptions {
    /// Which, and how long.
    #[command(flatten)]
    pub promote: MemberPromoteOptions,
    /// The formatting to let in, as `tercet format` has printed it; without it the one that tries to get in
    #[arg(long, value_parser = parse_incarnation)]
    pub incarnation: Option<u128>,
}

fn parse_incarnation(text: &str) -> Result<u128, String> {
    match u128::from_str_radix(text, 16) {
        Ok(number) if number != 0 && text.len() == 32 => Ok(number),
        _ => Err("give the 32 hexadecimal digits that `tercet format` has printed".to_owned()),
    }
}

/// How fast `bench` publishes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    /// Open loop: so many events a second, all connections together.
    PerSecond(f64),
    /// As fast as acknowledgements come.
    Max,
}

/// `tercet bench`.
#[derive(Args)]
#[command(
    after_help = "Latency counts from the intended send time to the acknowledgement (open loop); the intended \
time stays what it is when the cluster or this machine stalls.\n\
Exit code 1: over 1 % of the events were not sent or not acknowledged in time (the rate was missed), a connection \
failed, or the generator itself was late: the 99th percentile of its own delay was above 1 ms and above \
half of the measured one."
)]
pub struct BenchOptions {
    /// Client addresses, comma-separated
    #[arg(long)]
    pub servers: String,
    /// Events a second, or max: as fast as a closed window of acknowledgements allows
    #[arg(long, value_parser = parse_bench_rate)]
    pub rate: Rate,
    /// Bytes of each event's body
    #[arg(long, value_parser = parse_size)]
    pub size: u64,
    /// How long to measure
    #[arg(long, value_parser = parse_duration)]
    pub duration: Duration,
    /// How long to load before measuring
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub warmup: Duration,
    /// Publishing connections, each with a producer of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// One JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tercet log ...`.
#[derive(Args)]
pub struct LogOptions {
    /// A stopped node's data directory
    #[arg(long)]
    pub data_dir: PathBuf,
    /// One JSON object (a line for each entry with dump)
    #[arg(long)]
    pub json: bool,
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_duration_ns(text).map(Duration::from_nanos).map_err(|error| error.to_string())
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_duration(text)?;
    if timeout < Duration::from_millis(1) { Err("give it at least 1ms".to_owned()) } else { Ok(timeout) }
}

fn parse_size(text: &str) -> Result<u64, String> {
    parse_size_bytes(text).map_err(|error| error.to_string())
}

fn parse_bench_rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        _ => parse_rate(text).map(Rate::PerSecond).map_err(|error| format!("{error}, nor max")),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.replace('_', "").parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(rate),
        _ => Err(format!("'{text}' is not a number of events a second above 0")),
    }
}
