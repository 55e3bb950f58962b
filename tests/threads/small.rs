//! The counts that several threads keep: `agent/gauge.rs`, `log/pulse.rs`.

use loom::thread;

use crate::gauge::ConnectionGauge;
use crate::lab::{Model, check};
use crate::pulse::Pulse;

/// Two that want the last of two places while the holder of the first one leaves.
fn gauge() {
    let gauge = ConnectionGauge::default();
    assert!(gauge.try_enter(2));
    let (leaver, enterer) = (gauge.clone(), gauge.clone());
    let leaving = thread::spawn(move || leaver.leave());
    let entering = thread::spawn(move || enterer.try_enter(2));
    let mine = gauge.try_enter(2);
    assert!(gauge.open() <= 2, "never above the limit");
    leaving.join().unwrap();
    let theirs = entering.join().unwrap();
    assert!(mine || theirs, "one place was free all the time");
    assert_eq!(gauge.open(), usize::from(mine) + usize::from(theirs), "none lost, none made up");
}

/// One place and two that want it.
fn gauge_limit() {
    let gauge = ConnectionGauge::default();
    let other = gauge.clone();
    let entering = thread::spawn(move || other.try_enter(1));
    let mine = gauge.try_enter(1);
    assert!(mine != entering.join().unwrap(), "one place, one that enters");
    assert_eq!(gauge.open(), 1);
}

fn pulse() {
    let pulse = Pulse::default();
    let beating = pulse.clone();
    let disk = thread::spawn(move || (0..2).for_each(|_| beating.beat()));
    let first = pulse.beats();
    assert!(pulse.beats() >= first, "a count never goes back");
    disk.join().unwrap();
    assert_eq!(pulse.beats(), 2);
}

pub const GAUGE: Model = Model { name: "gauge", preemptions: None, run: gauge };
pub const LIMIT: Model = Model { name: "gauge at its limit", preemptions: None, run: gauge_limit };
pub const PULSE: Model = Model { name: "pulse", preemptions: None, run: pulse };

pub const ALL: &[Model] = &[LIMIT, GAUGE, PULSE];

#[test]
fn the_gauge_of_connections_loses_nobody() {
    check(GAUGE);
    check(LIMIT);
}

#[test]
fn no_beat_is_lost() {
    check(PULSE);
}
