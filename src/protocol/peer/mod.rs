//! What nodes say to each other on the peer port.
