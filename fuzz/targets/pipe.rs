//! Packets in a pipe: arbitrary bytes in arbitrary pieces.
#![no_main]

use arbitrary::Arbitrary;
use jq_common::carrier::pipe::{self, BadFrame, Deframer, LONGEST};
use jq_fuzz::bounded;
use libfuzzer_sys::fuzz_target;
use quinn::{AsyncUdpSocket, udp::Transmit};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    pieces: Vec<u8>,
    bytes: &'a [u8],
    packets: Vec<&'a [u8]>,
}

type Read = (Vec<Vec<u8>>, Option<BadFrame>, bool);

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Read {
    let mut deframer = Deframer::default();
    let mut packets = Vec::new();
    for piece in pieces {
        deframer.push(piece);
        loop {
            match deframer.next_packet() {
                Ok(Some(packet)) => packets.push(packet.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(deframer.next_packet(), Err(error), "an error must be permanent");
                    return (packets, Some(error), true);
                }
            }
        }
    }
    (packets, None, deframer.is_between_packets())
}

fn cut<'a>(mut bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &size in sizes {
        let (piece, rest) = bytes.split_at(usize::from(size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// The bytes that a carrier writes for `packets`.
fn written(packets: &[&[u8]]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut wire = Vec::new();
    runtime.expect("a runtime").block_on(async {
        // The other side sends nothing and stays open.
        let (_open, never) = tokio::io::duplex(1);
        let (carrier, driver) = pipe::over(never, &mut wire);
        for contents in packets {
            let transmit = Transmit {
                destination: pipe::PEER,
                ecn: None,
                contents,
                segment_size: None,
                src_ip: None,
            };
            carrier
                .try_send(&transmit)
                .expect("the carrier accepts every packet");
        }
        drop(carrier);
        driver.run().await.expect("all packets are written");
    });
    wire
}

fuzz_target!(|input: Input<'_>| {
    let pieces = cut(input.bytes, &input.pieces);
    let at_once = bounded(input.bytes.len(), || read([input.bytes].into_iter()));
    let in_pieces = bounded(input.bytes.len(), || read(pieces.into_iter()));
    assert_eq!(at_once, in_pieces);

    let fits = |packet: &&&[u8]| (1..=usize::from(LONGEST)).contains(&packet.len());
    let sent: Vec<Vec<u8>> = input
        .packets
        .iter()
        .filter(fits)
        .map(|packet| packet.to_vec())
        .collect();
    assert_eq!(
        read([written(&input.packets).as_slice()].into_iter()),
        (sent, None, true)
    );
});
