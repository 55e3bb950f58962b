//! Waits that end on time. A poll's own timeout counts whole milliseconds, rounded up, which is too coarse for an
//! open-loop schedule; a timer descriptor on the same poll counts nanoseconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Longer waits do not miss a part of a millisecond.
pub(super) const FINE_BELOW: Duration = Duration::from_millis(20);

/// A one-shot timer on a poll. It stays registered for as long as the poll lives.
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Ends a poll after so long (above zero). Replaces what was set before, gone off or not.
    pub(super) fn set(&self, after: Duration) -> io::Result<()> {
        // Waits this short fit every field.
        let once = Timespec { tv_sec: after.as_secs() as i64, tv_nsec: i64::from(after.subsec_nanos()) };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.0,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: never, it_value: once },
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use mio::{Events, Poll, Token};

    use super::Alarm;

    #[test]
    fn every_setting_ends_one_poll_whether_the_one_before_went_off_or_not() {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(4);
        let alarm = Alarm::new(poll.registry(), Token(7)).unwrap();
        for round in 0..20 {
            let begun = Instant::now();
            if round % 3 == 0 {
                alarm.set(Duration::from_secs(100)).unwrap();
            }
            alarm.set(Duration::from_micros(200)).unwrap();
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(7)]);
            let waited = begun.elapsed();
            assert!(waited >= Duration::from_micros(200) && waited < Duration::from_secs(50), "{waited:?}");
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty(), "it goes off once");
    }
}
