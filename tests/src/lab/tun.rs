//! Opening TUN devices: the one place that needs an ioctl.
#![allow(unsafe_code, reason = "TUNSETIFF has no safe wrapper in rustix")]

use std::ffi::c_int;
use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{self, Setter, opcode};

const TUNSETIFF: ioctl::Opcode = opcode::write::<c_int>(b'T', 202);
const IFF_TUN: u16 = 0x0001;
const IFF_NO_PI: u16 = 0x1000;
const NAME_LEN: usize = 16;

/// The part of the kernel's `struct ifreq` that TUNSETIFF reads.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_LEN],
    flags: u16,
    rest: [u8; 22],
}

/// Creates a TUN device called `name` in the calling thread's network namespace. Each read returns one IP packet and each
/// write sends one, without blocking. Closing the descriptor removes the device.
pub(crate) fn open(name: &str) -> Result<OwnedFd> {
    ensure!(
        name.len() < NAME_LEN,
        "{name}: an interface's name has at most {} bytes",
        NAME_LEN - 1
    );
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device =
        rustix::fs::open("/dev/net/tun", flags, Mode::empty()).context("cannot open /dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; NAME_LEN],
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, and `InterfaceRequest` has its layout and its 40
    // bytes.
    let made = unsafe { ioctl::ioctl(&device, Setter::<TUNSETIFF, InterfaceRequest>::new(request)) };
    made.with_context(|| format!("cannot make the TUN device {name}"))?;
    Ok(device)
}
