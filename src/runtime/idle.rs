//! What a thread does when a turn found nothing to do.

use crossbeam::utils::Backoff;

/// Idle strategy of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Idle {
    /// Sleep in the poll at once: the least CPU, one wake-up (20-40 us) of latency.
    #[default]
    Park,
    /// Spin a little, yield a little, then sleep.
    Backoff,
    /// Never sleep: the least latency, one core.
    Spin,
}

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Look again at once.
    Again,
    /// Wait in the poll.
    Sleep,
}

/// One thread's idle state.
pub(super) struct IdleState {
    idle: Idle,
    backoff: Backoff,
}

impl IdleState {
    pub(super) fn new(idle: Idle) -> Self {
        Self { idle, backoff: Backoff::new() }
    }

    /// A turn found something.
    pub(super) fn busy(&self) {
        self.backoff.reset();
    }

    /// A turn found nothing.
    pub(super) fn next(&self) -> Step {
        match self.idle {
            Idle::Park => Step::Sleep,
            Idle::Spin => {
                std::hint::spin_loop();
                Step::Again
            }
            Idle::Backoff if self.backoff.is_completed() => Step::Sleep,
            Idle::Backoff => {
                self.backoff.snooze();
                Step::Again
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Idle, IdleState, Step};

    #[test]
    fn backoff_ends_in_sleep_and_work_starts_it_afresh() {
        let state = IdleState::new(Idle::Backoff);
        let steps = (0..100).take_while(|_| state.next() == Step::Again).count();
        assert!((1..100).contains(&steps));
        assert_eq!(state.next(), Step::Sleep);
        state.busy();
        assert_eq!(state.next(), Step::Again);
        assert_eq!(IdleState::new(Idle::Park).next(), Step::Sleep);
        assert_eq!(IdleState::new(Idle::Spin).next(), Step::Again);
    }
}
