//! Binary caches for the tests: servers for a folder that is one, and what is in it.
//!
//! All of it listens on 127.0.0.1 only, on ports of its own, and ends when it is dropped.

mod entry;
mod nginx;
mod s3;
mod server;

use std::net::{Ipv4Addr, TcpListener};
use std::process::Child;

pub use entry::{Entry, Key};
pub use nginx::Nginx;
pub use s3::S3;
pub use server::{Answer, Server, Silent, refused_url};

/// What runs a command on one of several machines, which share the directory of the store: `on NAME COMMAND…`. The file
/// `../machines/NAME/conf` adds to the machine's configuration.
pub const ON: &str = r#"
    on() {
        local machine=$(realpath -m ../machines/$1); shift
        mkdir -p $machine/home
        env HOME=$machine/home NIX_STATE_DIR=$machine/var NIX_LOCALSTATE_DIR=$machine/var NIX_LOG_DIR=$machine/log \
            NIX_CONFIG="$NIX_CONFIG"$'\n'"$(cat $machine/conf 2> /dev/null)" "$@"
    }
"#;

/// A port that nobody listens on, for a server that is told its port.
fn free_port() -> Option<u16> {
    Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).ok()?.port())
}

fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
