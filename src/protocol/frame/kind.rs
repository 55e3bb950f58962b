//! The kinds of frames: one number space for both ports, so that a frame that strayed is named and refused.
//!
//! | range | what |
//! |---|---|
//! | `0x01-0x0f` | peer handshake |
//! | `0x10-0x1f` | Raft messages |
//! | `0x20-0x21` | mending: copies of damaged entries |
//! | `0x22-0x27` | checkpoints on their way |
//! | `0x28-0x3f` | reserved for nodes: membership, catch-up, leases |
//! | `0x40-0x57` | client to node |
//! | `0x58-0x7f` | reserved for clients: transactions `0x58`, cursors `0x60`, sessions `0x68`, administration `0x70` |
//! | `0x80-0x97` | node to client |
//! | `0x98-0xbf` | reserved answers, in the same order |
//! | `0x00`, `0xc0-0xff` | never used |

macro_rules! kinds {
    ($($(#[$doc:meta])* $constant:ident = $code:literal, $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: u8 = $code;)*

        /// Every kind that means something, with its name, in order.
        pub const ALL: &[(u8, &str)] = &[$(($code, $name)),*];

        /// The name of a kind, for messages; reserved and unknown ones say so.
        #[must_use]
        pub const fn name(kind: u8) -> &'static str {
            match kind {
                $($code => $name,)*
                0x23..=0x3f => "reserved for nodes",
                0x58..=0x7f => "reserved for clients",
                0x98..=0xbf => "reserved for answers",
                _ => "unknown",
            }
        }
    };
}

kinds! {
    /// First frame of a peer stream, from its dialler.
    PEER_HELLO = 0x01, "peer_hello";
    /// The answer to it; the only frame that ever travels against a peer stream's direction.
    PEER_HELLO_REPLY = 0x02, "peer_hello_reply";
    /// Would you vote for me? Raft thesis, section 9.6.
    PRE_VOTE = 0x10, "pre_vote";
    /// Its answer.
    PRE_VOTE_REPLY = 0x11, "pre_vote_reply";
    /// RequestVote, Raft paper, figure 2.
    VOTE = 0x12, "vote";
    /// Its answer.
    VOTE_REPLY = 0x13, "vote_reply";
    /// AppendEntries with entries, or the probe of a log position.
    APPEND = 0x14, "append";
    /// What the follower has, appended and stable; or a rejection with a hint.
    APPEND_REPLY = 0x15, "append_reply";
    /// The leader is alive; carries the commit index and a round for linearizable reads.
    HEARTBEAT = 0x16, "heartbeat";
    /// Its answer.
    HEARTBEAT_REPLY = 0x17, "heartbeat_reply";
    /// Do you have this entry? Settles a claimed tail.
    CLAIM_QUERY = 0x18, "claim_query";
    /// Its answer.
    CLAIM_REPLY = 0x19, "claim_reply";
    /// Leadership transfer, Raft thesis, section 3.10.
    TIMEOUT_NOW = 0x1a, "timeout_now";

    /// What do you have of these entries? This node's copies are damaged.
    FETCH = 0x20, "fetch";
    /// Its answer.
    FETCHED = 0x21, "fetched";
    /// A part of a leader's checkpoint, for a peer that retention has left behind.
    CHECKPOINT = 0x22, "checkpoint";

    /// First frame of a client's connection.
    CLIENT_HELLO = 0x40, "client_hello";
    /// Are you there?
    PING = 0x41, "ping";
    /// How are you?
    STATUS_QUERY = 0x42, "status_query";
    /// How far is the log committed?
    COMMIT_QUERY = 0x43, "commit_query";
    /// Makes or takes over a producer.
    OPEN_PRODUCER = 0x48, "open_producer";
    /// Events of one producer.
    PUBLISH = 0x49, "publish";
    /// Starts a subscription.
    SUBSCRIBE = 0x50, "subscribe";
    /// More bytes may be sent on a subscription.
    SUBSCRIBE_CREDIT = 0x51, "subscribe_credit";
    /// Make that node the leader.
    TRANSFER_LEADERSHIP = 0x52, "transfer_leadership";
    /// Who belongs to the cluster?
    LIST_MEMBERS = 0x53, "list_members";
    /// Make that node a learner under a new disk, or a voter.
    CHANGE_MEMBER = 0x54, "change_member";

    /// The answer to a client's hello.
    CLIENT_HELLO_REPLY = 0x80, "client_hello_reply";
    /// The answer to a ping.
    PONG = 0x81, "pong";
    /// The answer to a status query.
    STATUS_REPLY = 0x82, "status_reply";
    /// The answer to a commit query.
    COMMIT_REPLY = 0x83, "commit_reply";
    /// Not the leader (any more): publish there instead.
    REDIRECT = 0x84, "redirect";
    /// There is a new leader, or none.
    LEADER_NEWS = 0x85, "leader_news";
    /// The node closes this connection.
    GOODBYE = 0x86, "goodbye";
    /// A request by id failed.
    REQUEST_ERROR = 0x87, "request_error";
    /// The answer to opening a producer.
    PRODUCER_OPENED = 0x88, "producer_opened";
    /// Events are committed.
    PUBLISH_ACK = 0x89, "publish_ack";
    /// Events were refused.
    PUBLISH_ERROR = 0x8a, "publish_error";
    /// A subscription has begun.
    SUBSCRIBED = 0x90, "subscribed";
    /// Committed entries.
    ENTRIES = 0x91, "entries";
    /// How far a subscription has come although nothing matched.
    PROGRESS = 0x92, "progress";
    /// A subscription ended.
    SUBSCRIPTION_ERROR = 0x93, "subscription_error";
    /// What became of a transfer of leadership.
    TRANSFER_REPLY = 0x94, "transfer_reply";
    /// The answer to the question for the members.
    MEMBERS = 0x95, "members";
    /// What became of a change of a member.
    CHANGE_MEMBER_REPLY = 0x96, "change_member_reply";
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_is_unique_ordered_and_inside_its_range() {
        assert!(super::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (kind, name) in super::ALL {
            assert_eq!(super::name(*kind), *name);
            assert!(matches!(kind, 0x01..=0x27 | 0x40..=0x57 | 0x80..=0x97), "{kind:#x}");
        }
        assert_eq!(super::name(0), "unknown");
        assert_eq!(super::name(0x58), "reserved for clients");
    }
}
