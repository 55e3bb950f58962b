//! One subscription: where it stands, and what it is sent next.

use std::collections::VecDeque;

use super::window::Window;
use crate::base::clock::NS_PER_MS;
use crate::base::ids::{GroupId, LogIndex, Offset};
use crate::entry::Entry;
use crate::net::OutQueue;
use crate::protocol::client::{Entries, ServerMessage};
use crate::stream::{Cursor, TopicFilter};

/// Progress is told at most this often while nothing matches.
const PROGRESS_INTERVAL_NS: u64 = 10 * NS_PER_MS;

/// A subscription's state.
///
/// Invariant: every committed event below the cursor was sent, or stands in a batch in which nothing matched.
pub(super) struct Subscription {
    /// The client's number.
    pub id: u32,
    /// Where it stands, and what it wants.
    cursor: Cursor,
    /// Entry bytes that may still be sent; the last frame may take it below zero.
    pub credit_bytes: i64,
    /// Outstanding read of the log.
    pub cold: Option<u64>,
    /// What the reader brought.
    pub fetched: VecDeque<Entry>,
    /// The client knows that everything up to here was looked through.
    told_offset: Offset,
    told_at_ns: u64,
}

/// What a pump works towards.
pub(super) struct Target {
    /// Committed up to this entry.
    pub commit: LogIndex,
    /// Which is this event.
    pub last_offset: Offset,
    /// For frames.
    pub group: GroupId,
    /// Now.
    pub now_ns: u64,
}

/// Outcome of a pump.
pub(super) enum Pumped {
    /// Nothing more to send now: at the end, out of credit, or waiting for the reader or the socket.
    Idle {
        /// Entries queued.
        delivered: u64,
        /// Come back then to tell progress.
        wake_ns: Option<u64>,
    },
    /// The next entries must come from the log.
    Cold {
        /// Entries queued before.
        delivered: u64,
    },
}

impl Subscription {
    pub(super) fn new(id: u32, start: Offset, filter: TopicFilter, credit_bytes: i64) -> Self {
        Self {
            id,
            cursor: Cursor::new(start, filter),
            credit_bytes,
            cold: None,
            fetched: VecDeque::new(),
            told_offset: Offset::ZERO,
            told_at_ns: 0,
        }
    }

    /// The next offset to look at.
    pub(super) const fn next_offset(&self) -> Offset {
        self.cursor.next_offset()
    }
}

/// One frame's worth of entries.
#[derive(Default)]
struct Gathered {
    entries: Vec<Entry>,
    bytes: usize,
    looked_at: bool,
}

impl Gathered {
    /// Looks at one entry; false when the frame is full (and the entry was not looked at).
    fn take(&mut self, subscription: &mut Subscription, entry: &Entry, frame_limit: usize) -> bool {
        // An entry that is committed decodes: it was checked when it was appended.
        if subscription.cursor.wants(&entry.view()).unwrap_or(false) {
            if !self.entries.is_empty() && self.bytes + entry.len_bytes() > frame_limit {
                return false;
            }
            self.bytes += entry.len_bytes();
            self.entries.push(entry.clone());
        }
        subscription.cursor.advance_past(entry.header());
        self.looked_at = true;
        true
    }
}

/// Queues frames for one subscription until it is at the end, out of credit, or out of room.
pub(super) fn pump(
    subscription: &mut Subscription,
    window: &Window,
    outbox: &mut OutQueue<Entry>,
    outbox_limit: usize,
    frame_limit: usize,
    target: &Target,
) -> Pumped {
    let mut delivered = 0;
    while subscription.credit_bytes > 0 && outbox.len_bytes() < outbox_limit {
        if subscription.next_offset() > target.last_offset {
            let wake_ns = tell_progress(subscription, outbox, target);
            return Pumped::Idle { delivered, wake_ns };
        }
        let mut gathered = Gathered::default();
        while let Some(entry) = subscription.fetched.pop_front() {
            if !gathered.take(subscription, &entry, frame_limit) {
                subscription.fetched.push_front(entry);
                break;
            }
        }
        if !gathered.looked_at {
            match window.starting_at(subscription.next_offset()) {
                Some(entries) => {
                    for entry in entries {
                        if !gathered.take(subscription, entry, frame_limit) {
                            break;
                        }
                    }
                }
                None if subscription.cold.is_some() => return Pumped::Idle { delivered, wake_ns: None },
                None => return Pumped::Cold { delivered },
            }
        }
        delivered += gathered.entries.len() as u64;
        queue(subscription, gathered, outbox, target);
    }
    Pumped::Idle { delivered, wake_ns: None }
}

fn queue(subscription: &mut Subscription, gathered: Gathered, outbox: &mut OutQueue<Entry>, target: &Target) {
    if gathered.entries.is_empty() {
        return;
    }
    let header = Entries {
        subscription: subscription.id,
        commit_index: target.commit,
        last_offset: target.last_offset,
        entry_count: gathered.entries.len() as u32,
        bytes: &[],
    };
    outbox.push_with(|out| header.encode_header_for(gathered.bytes, target.group, out));
    subscription.credit_bytes -= gathered.bytes as i64;
    if let Some(last) = gathered.entries.last() {
        subscription.told_offset = last.header().next_offset().prev();
        subscription.told_at_ns = target.now_ns;
    }
    for entry in gathered.entries {
        outbox.push_shared(entry);
    }
}

/// At the end: says how far everything was looked through, unless the client can tell from what it got.
fn tell_progress(
    subscription: &mut Subscription,
    outbox: &mut OutQueue<Entry>,
    target: &Target,
) -> Option<u64> {
    let looked_through = subscription.next_offset().prev().min(target.last_offset);
    if looked_through <= subscription.told_offset {
        return None;
    }
    let due_ns = subscription.told_at_ns + PROGRESS_INTERVAL_NS;
    if subscription.told_at_ns != 0 && target.now_ns < due_ns {
        return Some(due_ns);
    }
    let progress = ServerMessage::Progress {
        subscription: subscription.id,
        commit_index: target.commit,
        last_offset: looked_through,
    };
    outbox.push_with(|out| progress.encode(target.group, out));
    (subscription.told_offset, subscription.told_at_ns) = (looked_through, target.now_ns);
    None
}
