//! `tercet publish`.

pub mod ack_log;
pub mod engine;
pub mod input;
pub mod tally;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tercet::base::ids::Sequence;
use tercet::client::Publisher;

use self::ack_log::AckLog;
use self::engine::{Engine, Job};
use self::input::Input;
use self::tally::Tally;
use crate::args::PublishOptions;
use crate::connect;
use crate::exit::{Failure, Outcome};
use crate::interrupt::{GRACE, Interrupt};
use crate::output;
use crate::pace::Pace;

/// Publishes a file or standard input, line by line.
pub fn run(options: &PublishOptions) -> Outcome {
    // Whatever can be refused without the cluster is refused before it is asked for anything.
    connect::check_topic(&options.topic)?;
    let client = connect::options(&options.servers, "tercet publish", options.timeout)?;
    let source = open(&options.input)?;
    let ack_log = AckLog::create(options.ack_log.as_deref())?;
    let interrupt = Interrupt::install(GRACE)?;
    let name = options.producer.clone().map_or_else(|| connect::random_name("publish"), Ok)?;

    let mut publisher = Publisher::open(client, &name)?;
    if let Some(window) = options.window {
        publisher = publisher.with_window(window as usize);
    }
    publisher.start_at(Sequence(options.first_sequence));
    interrupt.wakes(publisher.waker());
    let waker = publisher.waker();
    let wake = move || {
        // Without it lines are found at the next turn.
        let _ = waker.wake();
    };
    let job = Job { topic: &options.topic, pace: options.rate.map(Pace::new), interrupt: &interrupt };
    let bar = progress_bar();
    let engine = Engine::new(&mut publisher, Input::spawn(source, wake), ack_log, job);
    let (tally, outcome) = engine.run(&|tally: &Tally| {
        bar.set_position(tally.acknowledged);
    });
    bar.finish_and_clear();
    // What was acknowledged is said whatever came then.
    if options.json {
        output::print_json(&tally.to_json())?;
    } else {
        crate::output::say(format_args!("{}\n", tally.to_line()))?;
    }
    outcome.map(|()| ExitCode::SUCCESS)
}

fn open(path: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let unreadable = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(Failure::usage(format!("cannot read {}: it is a directory", path.display())));
    }
    Ok(Box::new(file))
}

/// Counts acknowledgements on stderr, if that is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} acknowledged ({per_sec}, {elapsed})") {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(Duration::from_millis(100));
    }
    bar
}
