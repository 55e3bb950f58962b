//! Publishes each line of standard input as an event, pipelined.
//!
//! `cargo run --example publish -- 127.0.0.1:9001,127.0.0.1:9002 quakes my-producer < FILE`
//!
//! Sequences begin at 1, so that (producer, line number) names a line: the same command run again adds nothing.

use std::io::BufRead;
use std::process::ExitCode;
use std::time::Duration;

use tercet::base::ids::Sequence;
use tercet::client::{Ack, AckKind, ClientError, ClientOptions, Event, Publisher, parse_servers};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, topic, producer] = &arguments[..] else {
        eprintln!("usage: publish SERVERS TOPIC PRODUCER < LINES");
        return ExitCode::from(2);
    };
    match run(servers, topic, producer) {
        Ok((acknowledged, duplicates)) => {
            println!("{acknowledged} events acknowledged, {duplicates} of them already there");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("publish: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(servers: &str, topic: &str, producer: &str) -> Result<(u64, u64), ClientError> {
    let mut publisher = Publisher::open(ClientOptions::new(parse_servers(servers)?), producer)?;
    publisher.start_at(Sequence(1));
    let (mut acknowledged, mut duplicates) = (0, 0);
    let mut count = |ack: Ack| {
        acknowledged += u64::from(ack.count);
        if ack.kind != AckKind::Written {
            duplicates += u64::from(ack.count);
        }
    };
    for line in std::io::stdin().lock().split(b'\n') {
        let Ok(body) = line else { break };
        let event = Event::new(topic, &body);
        // No room means that enough is in flight: wait for acknowledgements, then go on.
        while publisher.try_publish(&event)?.is_none() {
            publisher.poll(Duration::from_millis(100), &mut count)?;
        }
    }
    publisher.drain(Duration::MAX, &mut count)?;
    Ok((acknowledged, duplicates))
}
