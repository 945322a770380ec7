use super::*;

fn drain(send_buffer: &mut SendBuffer, most: u64) -> Vec<u8> {
    let mut batch = vec![Bytes::new(); 4];
    let taken = send_buffer.batch(&mut batch);
    let all: Vec<u8> = batch[..taken].concat();
    let count = most.min(all.len() as u64);
    send_buffer.advance(count);
    all[..count as usize].to_vec()
}

#[test]
fn after_a_rewind_bytes_are_sent_from_where_the_peer_has_them() {
    let mut send_buffer = SendBuffer::new();
    for part in ["one", "two", "three"] {
        send_buffer.push(Bytes::from_static(part.as_bytes()));
    }
    assert_eq!(drain(&mut send_buffer, 5), b"onetw");
    assert_eq!(send_buffer.acknowledge(4, false).unwrap(), 4);
    assert_eq!(drain(&mut send_buffer, 100), b"othree");
    send_buffer.rewind(4).unwrap();
    assert_eq!(drain(&mut send_buffer, 100), b"wothree");
    send_buffer.rewind(7).unwrap();
    assert_eq!(drain(&mut send_buffer, 100), b"hree");
    assert_eq!(send_buffer.acknowledge(11, false).unwrap(), 7);
    assert_eq!(send_buffer.held(), 0);
}

#[test]
fn an_acknowledgement_of_bytes_that_were_not_sent_is_refused() {
    let mut send_buffer = SendBuffer::new();
    send_buffer.push(Bytes::from_static(b"abcd"));
    send_buffer.advance(2);
    assert!(send_buffer.acknowledge(3, false).is_err());
    assert!(send_buffer.rewind(3).is_err());
    assert!(send_buffer.acknowledge(2, true).is_err(), "no end was sent");
    send_buffer.acknowledge(2, false).unwrap();
    assert!(send_buffer.rewind(1).is_err(), "less than it acknowledged");
    assert_eq!(
        send_buffer.acknowledge(1, false).unwrap(),
        0,
        "an old acknowledgement"
    );
}

#[test]
fn the_window_grows_only_when_it_is_the_bottleneck() {
    let chunk = || Bytes::from(vec![0; INITIAL_WINDOW as usize]);
    let mut send_buffer = SendBuffer::new();
    send_buffer.push(chunk());
    send_buffer.advance(INITIAL_WINDOW);
    send_buffer.acknowledge(INITIAL_WINDOW / 2, false).unwrap();
    assert_eq!(send_buffer.window, INITIAL_WINDOW, "the socket had no more data");
    send_buffer.window_blocked();
    send_buffer.acknowledge(INITIAL_WINDOW, false).unwrap();
    assert_eq!(send_buffer.window, 2 * INITIAL_WINDOW);
    for (acked, window) in [
        (INITIAL_WINDOW + 1, 4),
        (INITIAL_WINDOW + 2, 4),
        (3 * INITIAL_WINDOW + 1, 8),
    ] {
        while send_buffer.room() >= INITIAL_WINDOW {
            send_buffer.push(chunk());
            send_buffer.advance(INITIAL_WINDOW);
        }
        send_buffer.window_blocked();
        send_buffer.acknowledge(acked, false).unwrap();
        assert_eq!(send_buffer.window, window * INITIAL_WINDOW, "at {acked}");
    }
}

proptest::proptest! {
    #[test]
    fn bytes_arrive_in_order_through_any_rewinds(
        parts in proptest::collection::vec(proptest::collection::vec(0u8.., 0..9), 0..20),
        steps in proptest::collection::vec((0u64..12, 0u8..4), 0..80),
    ) {
        let mut send_buffer = SendBuffer::new();
        let all: Vec<u8> = parts.concat();
        for part in parts {
            send_buffer.push(Bytes::from(part));
        }
        let mut peer: Vec<u8> = Vec::new();
        for (count, what) in steps {
            match what {
                0 | 1 => {
                    let from = send_buffer.sent() as usize;
                    let sent = drain(&mut send_buffer, count);
                    proptest::prop_assert_eq!(&all[from..from + sent.len()], &sent[..]);
                    if from == peer.len() { peer.extend(sent); }
                }
                2 => send_buffer.rewind(peer.len() as u64).unwrap(),
                _ => {
                    let delivered = (send_buffer.acked() + count).min(peer.len() as u64);
                    send_buffer.acknowledge(delivered, false).unwrap();
                }
            }
            proptest::prop_assert!(send_buffer.acked() <= send_buffer.sent() && send_buffer.sent() <= send_buffer.end());
            let (snapshot, chunks) = send_buffer.snapshot();
            let held = Bytes::from(chunks.flatten().copied().collect::<Vec<_>>());
            let copy = SendBuffer::restore(&snapshot, held).unwrap();
            proptest::prop_assert_eq!(copy.end(), send_buffer.end());
        }
    }
}
