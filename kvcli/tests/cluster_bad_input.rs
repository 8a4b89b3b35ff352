//! Nonsense on the port harms nobody; a directory or address that does not fit ends `serve` with one line and the
//! code of the contract, and leaves the directory as it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "what goes wrong here fails the test"
)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use support::{Cluster, Finished, SOON, Server, free_ports, run};

const RECORD_HEADER_BYTES: usize = 48;
/// Header, two slots and the footer's head, a block each, stand before the first record.
const RECORDS_AT: usize = 4 * 4096;

/// CRC-32 as docs/format.md names it.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _bit| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    });
    (!sum).to_le_bytes()
}

/// A hello as docs/wire.md describes it: of a client that means no cluster, or one of another tag.
fn hello(tag: u8) -> Vec<u8> {
    let content = [&[tag, 1, 1, 0, 1, 0][..], &[0; 17]].concat();
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&b"DLEDGER\0"[..], &length, &crc(&content), &content].concat()
}

/// Reads to the end. A node that keeps the connection fails the test by the time limit.
#[track_caller]
fn assert_closed(mut stream: TcpStream, what: &str) {
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut told = Vec::new();
    if let Err(error) = stream.read_to_end(&mut told) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}: the connection is kept: {error}");
    }
    assert!(told.len() < 4096, "{what}: a stranger is told {} bytes", told.len());
}

#[test]
fn nonsense_on_the_port_is_closed_and_the_cluster_serves_on() {
    let mut cluster = Cluster::start(3);
    cluster.run(&["put", "a", "1"]).ended(0);
    let oversized_hello = [&b"DLEDGER\0"[..], &[0xff; 8]].concat();
    let mut wrong_sum = hello(2);
    *wrong_sum.last_mut().unwrap() ^= 1;
    let mut wrong_magic = hello(2);
    wrong_magic[0] ^= 1;
    let garbage: Vec<u8> = (0..4096_u32).map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let first_bytes: [(&str, Vec<u8>); 7] = [
        ("garbage", garbage.clone()),
        ("a web browser", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec()),
        ("wrong magic", wrong_magic),
        ("an oversized hello", oversized_hello),
        ("a hello with a wrong checksum", wrong_sum),
        ("a hello of no known kind", hello(77)),
        ("a client that goes on with garbage", [hello(2), vec![0xff; 24], garbage].concat()),
    ];
    for place in 0..3 {
        for (what, bytes) in &first_bytes {
            let mut stream = TcpStream::connect(cluster.address(place)).unwrap();
            // The node may close before all of it is taken.
            let _reset = stream.write_all(bytes);
            assert_closed(stream, what);
        }
        let mut stream = TcpStream::connect(cluster.address(place)).unwrap();
        stream.write_all(&hello(2)).unwrap();
        let mut welcome = [0; 8];
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.read_exact(&mut welcome).unwrap();
        assert_eq!(&welcome, b"DLEDGER\0", "the hello of this test is a good one");
        // Four bytes are enough to see that the frame is over the limit.
        stream.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_closed(stream, "a frame over the limit");
    }
    assert!(cluster.nodes.iter_mut().flatten().all(Server::is_running));
    for place in 0..3 {
        assert_eq!(cluster.export(place), "a\t1\n");
    }
    cluster.run(&["put", "a", "2"]).ended(0);
    cluster.stop_all();
}

/// Files and their bytes, all the way down.
fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for name in support::names(directory) {
        let path = directory.join(name);
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}

/// A directory of a stopped node 1 that holds some keys.
struct Left {
    address: String,
    directory: tempfile::TempDir,
}

impl Left {
    fn new() -> Self {
        let left = Self { address: format!("127.0.0.1:{}", free_ports(1)), directory: tempfile::tempdir().unwrap() };
        let spec = format!("1={}", left.address);
        let server = Server::start(&["--id", "1", "--cluster", &spec, "--data-dir", left.path()]);
        for key in ["a", "b", "c"] {
            run(&["--endpoints", &left.address, "put", key, &"v".repeat(100)]).ended(0);
        }
        assert_eq!(server.stop().code(), Some(0));
        left
    }

    fn path(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Starts node `id` of `spec` on the directory: it must end with `code`, one line on stderr that holds each of
    /// `words`, nothing on stdout, and no byte changed.
    #[track_caller]
    fn refused(&self, id: &str, spec: &str, code: i32, words: &[&str]) {
        let before = contents(self.directory.path());
        let done = run(&["serve", "--id", id, "--cluster", spec, "--data-dir", self.path()]).ended(code);
        assert_one_line(&done, words);
        assert!(contents(self.directory.path()) == before, "the directory was changed");
    }

    /// Starts the node as it was meant: nothing was lost.
    fn serves(&self) {
        let spec = format!("1={}", self.address);
        let server = Server::start(&["--id", "1", "--cluster", &spec, "--data-dir", self.path()]);
        assert_eq!(run(&["--endpoints", &self.address, "scan", "--count"]).ended(0).text(), "3\n");
        assert_eq!(server.stop().code(), Some(0));
    }

    fn segment(&self) -> PathBuf {
        let log = contents(self.directory.path());
        log.into_iter()
            .map(|(path, _bytes)| path)
            .find(|path| path.extension().is_some_and(|end| end == "seg"))
            .unwrap()
    }
}

#[track_caller]
fn assert_one_line(done: &Finished, words: &[&str]) {
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    assert!(done.stderr.starts_with("error: "), "{}", done.stderr);
    assert!(words.iter().all(|word| done.stderr.contains(word)), "{words:?} in {}", done.stderr);
    assert!(done.stdout.is_empty(), "{}", done.text());
}

#[test]
fn directory_of_other_members_or_another_id_is_code_two_and_left_alone() {
    let left = Left::new();
    let elsewhere = format!("127.0.0.1:{}", free_ports(1));
    left.refused("1", &format!("1={},2={elsewhere}", left.address), 2, &[left.path(), "another node or cluster"]);
    left.refused("2", &format!("1={},2={elsewhere}", left.address), 2, &[left.path(), "another node or cluster"]);
    left.refused("1", &format!("2={elsewhere}"), 2, &["does not name node 1"]);
    left.refused("1", "1=nowhere", 2, &["ID=HOST:PORT"]);
    left.serves();
}

#[test]
fn directory_of_a_newer_format_is_code_one_and_left_alone() {
    let left = Left::new();
    let identity = left.directory.path().join("identity");
    let written = std::fs::read(&identity).unwrap();
    let mut newer = written.clone();
    newer[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let sum = crc(&newer[..12]);
    newer[12..16].copy_from_slice(&sum);
    std::fs::write(&identity, &newer).unwrap();
    left.refused("1", &format!("1={}", left.address), 1, &["format version 2", "this release reads 1"]);
    // The same under the old checksum is damage, not news; in both copies nothing is left to go by.
    for copy in [0, written.len() / 2] {
        newer[copy..copy + 16].copy_from_slice(&written[copy..copy + 16]);
        newer[copy + 8] ^= 0xff;
    }
    std::fs::write(&identity, &newer).unwrap();
    left.refused("1", &format!("1={}", left.address), 1, &["corrupt at offset"]);
    std::fs::write(&identity, &written).unwrap();
    left.serves();
}

#[test]
fn directory_of_somebody_else_is_code_one_and_left_alone() {
    let left = Left { address: format!("127.0.0.1:{}", free_ports(1)), directory: tempfile::tempdir().unwrap() };
    std::fs::create_dir(left.directory.path().join("photos")).unwrap();
    std::fs::write(left.directory.path().join("photos/cat.jpg"), "meow").unwrap();
    left.refused("1", &format!("1={}", left.address), 1, &["is not a dledger data directory"]);
    std::fs::remove_dir_all(left.directory.path().join("photos")).unwrap();
    std::fs::write(left.directory.path().join("identity"), "a passport, and quite a long one").unwrap();
    left.refused("1", &format!("1={}", left.address), 1, &["is not a dledger data directory"]);
}

#[test]
fn port_in_use_is_code_two_and_the_directory_serves_elsewhere_later() {
    let left = Left::new();
    let taken = TcpListener::bind(&left.address).unwrap();
    let done = run(&["serve", "--id", "1", "--cluster", &format!("1={}", left.address), "--data-dir", left.path()]);
    assert_one_line(&done.ended(2), &["cannot listen on", &left.address]);
    drop(taken);
    left.serves();
}

#[test]
fn flipped_byte_below_the_slot_is_code_one_and_never_cut() {
    let left = Left::new();
    let segment = left.segment();
    let written = std::fs::read(&segment).unwrap();
    let length = u32::from_le_bytes(written[RECORDS_AT + 4..RECORDS_AT + 8].try_into().unwrap());
    let second = RECORDS_AT + usize::try_from(length).unwrap();
    assert_ne!(written[second..second + RECORD_HEADER_BYTES], [0; RECORD_HEADER_BYTES], "there is a second record");
    for flipped in [RECORDS_AT + 8, second + 5, second + RECORD_HEADER_BYTES] {
        let mut damaged = written.clone();
        damaged[flipped] ^= 1;
        std::fs::write(&segment, &damaged).unwrap();
        let named = ["is damaged at offset", segment.to_str().unwrap(), "kvcli log repair"];
        left.refused("1", &format!("1={}", left.address), 1, &named);
        run(&["log", "verify", "--data-dir", left.path()]).ended(1);
    }
    std::fs::write(&segment, &written).unwrap();
    left.serves();
}
