//! The client against scripted nodes on loopback, which speak the real protocol over real sockets.

mod fake;
mod members;
mod publisher;
mod publisher_failover;
mod publisher_trouble;
mod query;
mod subscriber;
mod transfer;

use super::{ClientError, ClientOptions, Publisher, Subscriber, parse_servers};

#[test]
fn clients_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<Publisher>();
    is_send::<Subscriber>();
    is_send::<super::Waker>();
    is_send::<ClientError>();
}

#[test]
fn lists_of_servers_are_read_and_bad_ones_say_what_is_wrong() {
    let servers = parse_servers("127.0.0.1:9001, [::1]:9002,,127.0.0.1:9001").unwrap();
    assert_eq!(servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:9001", "[::1]:9002"]);
    for bad in ["", ",", "127.0.0.1", "127.0.0.1:99999", "no port"] {
        let error = parse_servers(bad).unwrap_err();
        assert!(matches!(error, ClientError::BadServers { .. }), "{bad}: {error}");
        assert_eq!(error.exit_code(), 2);
        assert!(!error.to_string().contains('\n'));
    }
    let eight = (1..=8).map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
    assert!(matches!(parse_servers(&eight), Err(ClientError::BadServers { .. })));
    assert!(matches!(
        Publisher::open(ClientOptions::new(Vec::new()), "p"),
        Err(ClientError::BadServers { .. })
    ));
}
