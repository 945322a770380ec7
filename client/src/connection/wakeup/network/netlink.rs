//! Reports of the kernel about links, addresses and routes: rtnetlink(7).

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, recv,
        socket_with,
    },
};
use tokio::io::unix::AsyncFd;

use super::event::Event;
use crate::connection::wakeup::descriptor::readable;

/// Multicast groups, one bit each (`enum rtnetlink_groups` in linux/rtnetlink.h). Rules are those of `ip rule`, which VPNs
/// use.
const GROUPS: u32 = group(1) // RTNLGRP_LINK
    | group(5) // RTNLGRP_IPV4_IFADDR
    | group(7) // RTNLGRP_IPV4_ROUTE
    | group(8) // RTNLGRP_IPV4_RULE
    | group(9) // RTNLGRP_IPV6_IFADDR
    | group(11) // RTNLGRP_IPV6_ROUTE
    | group(19); // RTNLGRP_IPV6_RULE

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// `struct nlmsghdr` in linux/netlink.h: length and type come first.
const HEADER: usize = 16;

/// Enough for the header of a message; the rest may be truncated.
const ROOM: usize = 4096;

/// A subscribed socket.
pub(super) struct Netlink {
    socket: AsyncFd<OwnedFd>,
    buffer: Box<[u8]>,
}

impl Netlink {
    /// Opens and subscribes it.
    ///
    /// # Errors
    /// Where netlink sockets are not permitted, as in some sandboxes.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        Ok(Self {
            socket: readable(socket)?,
            buffer: vec![0; ROOM].into(),
        })
    }

    /// Waits for a report, and reads all pending ones.
    ///
    /// # Errors
    /// When the socket has failed.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut event = None;
            loop {
                match recv(self.socket.get_ref(), &mut *self.buffer, RecvFlags::empty()) {
                    Ok((len, _)) if event.is_none() && is_news(&self.buffer[..len]) => {
                        event = Some(Event::Heard);
                    }
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::NOBUFS) => event = Some(Event::Missed),
                    Err(Errno::AGAIN) => break ready.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }
}

/// Whether one of the messages reports a change.
fn is_news(mut messages: &[u8]) -> bool {
    while let Some((&[a, b, c, d, kind, kind_high], _)) = messages.split_first_chunk() {
        if matches!(
            u16::from_ne_bytes([kind, kind_high]),
            16 | 17 // RTM_NEWLINK, RTM_DELLINK
            | 20 | 21 // RTM_NEWADDR, RTM_DELADDR
            | 24 | 25 // RTM_NEWROUTE, RTM_DELROUTE
            | 32 | 33 // RTM_NEWRULE, RTM_DELRULE
        ) {
            return true;
        }
        let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        // Messages are aligned to four bytes.
        let next = length.max(HEADER).checked_next_multiple_of(4);
        messages = next.and_then(|next| messages.get(next..)).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, body: usize) -> Vec<u8> {
        let length = u32::try_from(HEADER + body).unwrap();
        let mut message = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10]].concat();
        message.resize((HEADER + body).next_multiple_of(4), 0);
        message
    }

    #[test]
    fn changes_are_told_from_other_messages_wherever_they_stand() {
        const NOTHING: u16 = 1;
        const NEWNEIGH: u16 = 28;
        for kind in [16, 17, 20, 21, 24, 25, 32, 33] {
            assert!(is_news(&message(kind, 8)), "{kind}");
            assert!(
                is_news(&[message(NEWNEIGH, 5), message(kind, 0)].concat()),
                "{kind}"
            );
        }
        assert!(!is_news(&[]));
        assert!(!is_news(&[message(NOTHING, 0), message(NEWNEIGH, 30)].concat()));
    }

    proptest! {
        #[test]
        fn whatever_comes_it_ends(bytes: Vec<u8>) {
            is_news(&bytes);
        }
    }
}
