//! Passes open file descriptors over Unix sockets (SCM_RIGHTS, unix(7)): to another process, or in a socket pair to the
//! next program of this process. Across execve(2) the bare numbers would do as well, but safe Rust cannot turn a number
//! into an open descriptor.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};

/// Most descriptors in one message (`SCM_MAX_FD`, unix(7)).
const MOST: usize = 253;

/// Requested socket buffer; the kernel may grant less. A message takes about 1 KiB of it: 200 KiB hold 50,000
/// descriptors.
const BUFFER: usize = 1024 * 1024;

/// Creates a socket that holds `descriptors`, to be taken out once by [`unpack`].
///
/// # Errors
/// When the system does not hold as many: they count against the user's descriptors (`ETOOMANYREFS`) and the socket's
/// memory (`WouldBlock`).
pub(crate) fn pack(descriptors: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let (read, write) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Best effort: the system's default is enough for most.
    let _ = sockopt::set_socket_send_buffer_size(&write, BUFFER);
    for part in descriptors.chunks(MOST) {
        send(&write, &[0], part)?;
    }
    Ok(read)
}

/// Takes the descriptors out of a socket that [`pack`] created, in their order.
///
/// # Errors
/// When the socket was not created by `pack`, or the descriptors exceed this process's limit.
pub(crate) fn unpack(socket: impl AsFd) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    loop {
        let received = receive(&socket, &mut [0])?;
        descriptors.extend(received.descriptors);
        if received.truncated {
            return Err(io::Error::other("too many descriptors"));
        }
        if received.bytes == 0 {
            return Ok(descriptors);
        }
    }
}

/// Sends `bytes` on a stream socket without blocking, with `descriptors` (at most [`MOST`]) attached to the first byte.
/// Returns how many bytes were taken.
///
/// # Errors
/// The socket's own.
pub(crate) fn send(stream: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut ancillary,
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )?)
}

/// What one call of [`receive`] brought.
pub(crate) struct Received {
    /// How many bytes; 0 at the end of the stream.
    pub(crate) bytes: usize,
    /// The descriptors that were attached to them.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// The kernel dropped descriptors because they exceed this process's limit (`MSG_CTRUNC`, recvmsg(2)).
    pub(crate) truncated: bool,
}

/// Receives into `into` from a stream socket without blocking.
///
/// # Errors
/// The socket's own; `WouldBlock` when nothing is there.
pub(crate) fn receive(stream: impl AsFd, into: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(into)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(part) = message {
            descriptors.extend(part);
        }
    }
    Ok(Received {
        bytes: received.bytes,
        descriptors,
        truncated: received.flags.contains(ReturnFlags::CTRUNC),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read, Seek},
    };

    use super::*;

    #[test]
    fn ten_thousand_descriptors_come_out_as_they_went_in() {
        jq_common::descriptors::raise_limit();
        let all = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        // Each exists twice for a moment.
        let count = all.map_or(10_000, |all| (all.saturating_sub(100) / 2).min(10_000));
        let path = tempfile::NamedTempFile::new().unwrap();
        let descriptors: Vec<OwnedFd> = (0..count)
            .map(|_| File::open(path.path()).unwrap().into())
            .collect();
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let socket = pack(&borrowed).unwrap();
        let taken = unpack(&socket).unwrap();
        assert_eq!(taken.len() as u64, count);
    }

    #[test]
    fn the_order_is_kept_across_messages() {
        let files: Vec<File> = (0..MOST + 2)
            .map(|at| {
                let mut file = tempfile::tempfile().unwrap();
                io::Write::write_all(&mut file, &[u8::try_from(at % 256).unwrap()]).unwrap();
                file
            })
            .collect();
        let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let taken = unpack(pack(&borrowed).unwrap()).unwrap();
        for (at, descriptor) in taken.into_iter().enumerate() {
            let mut file = File::from(descriptor);
            let mut byte = [0];
            file.rewind().unwrap();
            file.read_exact(&mut byte).unwrap();
            assert_eq!(usize::from(byte[0]), at % 256);
        }
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_refused() {
        assert!(unpack(File::open("/dev/null").unwrap()).is_err());
    }
}
