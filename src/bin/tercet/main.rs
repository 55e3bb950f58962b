//! The `tercet` command line.
fn main() {
    println!("tercet {}", env!("CARGO_PKG_VERSION"));
}
