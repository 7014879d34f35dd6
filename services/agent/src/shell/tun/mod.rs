//! The TUN device, with segmentation offload: the kernel hands over and takes up to 64 KiB of a TCP connection or of a UDP
//! flow at a time, so that a system call moves dozens of packets.

use std::io::{self, IoSlice};

use anyhow::{Context as _, Result};
use tun_rs::{AsyncDevice, DeviceBuilder, VIRTIO_NET_HDR_LEN};

use crate::coalesce::{MAX_SEGMENTS, Run, first_run};
use crate::engine::{HEADROOM, MTU};
use crate::trust::{Membership, OVERLAY_BITS_V4, OVERLAY_BITS_V6};

/// Packets that wait in the TUN device.
const TUN_QUEUE: u32 = 2_000;

/// What the kernel hands over at most: a segmented packet and its header.
const READ_BYTES: usize = VIRTIO_NET_HDR_LEN + 65_535;
/// Longest packet that is read; longer ones are lost.
const PACKET_BYTES: usize = 2_048;
/// Packets that 64 KiB are cut into, for every connection whose segments are as long as anybody's (536 bytes and more).
const PACKETS: usize = 128;
/// The same for the shortest segments that Linux makes (`tcp_min_snd_mss`).
const MOST_PACKETS: usize = 65_535 / 48 + 1;

const _: () = assert!(HEADROOM >= VIRTIO_NET_HDR_LEN, "the device's header fits before a packet");

/// The TUN device and the packets that were read from it last.
pub(super) struct Tun {
    device: AsyncDevice,
    raw: Vec<u8>,
    packets: Vec<Vec<u8>>,
    lengths: Vec<usize>,
    count: usize,
}

impl Tun {
    /// Makes the TUN device with this node's addresses. It goes when it is dropped, or with the process. An address with the
    /// overlay's prefix makes the kernel's route to the rest of it, and takes the route along.
    pub fn open(name: &str, membership: &Membership) -> Result<Self> {
        let device = open(name, membership, true).or_else(|error| {
            tracing::info!("the TUN device goes without segmentation offload, which costs speed: {error:#}");
            open(name, membership, false)
        })?;
        // The kernel lets only the machine's own root do this, not that of a user namespace; it costs speed, not more.
        if let Err(error) = device.set_tx_queue_len(TUN_QUEUE) {
            tracing::debug!(%error, "the TUN device keeps its short queue");
        }
        if let Err(error) = device.add_address_v6(membership.address_v6, OVERLAY_BITS_V6) {
            tracing::warn!(%error, "the overlay has no IPv6 on this host");
        }
        Ok(Self {
            device,
            raw: vec![0; READ_BYTES],
            packets: vec![vec![0; PACKET_BYTES]; PACKETS],
            lengths: vec![0; PACKETS],
            count: 0,
        })
    }

    /// Waits for packets: those that the kernel hands over in one go.
    pub async fn receive(&mut self) -> io::Result<()> {
        self.count = 0;
        let received =
            self.device.recv_multiple(&mut self.raw, &mut self.packets, &mut self.lengths, 0).await;
        self.take(received)
    }

    /// Takes packets that are there already. Tells whether there were any.
    pub fn try_receive(&mut self) -> bool {
        self.count = 0;
        let received = self.device.try_recv_multiple(&mut self.raw, &mut self.packets, &mut self.lengths, 0);
        received.and_then(|count| self.take(Ok(count))).is_ok()
    }

    fn take(&mut self, received: io::Result<usize>) -> io::Result<()> {
        match received {
            Ok(count) => {
                self.count = count;
                Ok(())
            }
            // Nothing is wrong with the device: it handed over something that cannot be cut up.
            Err(error) if error.raw_os_error().is_none() && error.kind() != io::ErrorKind::WouldBlock => {
                tracing::debug!(%error, "what the TUN device handed over is lost");
                self.packets.resize(MOST_PACKETS, vec![0; PACKET_BYTES]);
                self.lengths.resize(MOST_PACKETS, 0);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The packets that were received last.
    pub fn received(&self) -> impl Iterator<Item = &[u8]> {
        let packets = self.packets.iter().zip(&self.lengths).take(self.count);
        packets.filter_map(|(packet, length)| packet.get(..*length))
    }

    /// Writes packets, each behind [`HEADROOM`] bytes, as far as the device takes them.
    pub fn send(&self, packets: &mut [Vec<u8>]) {
        let (has_offload, takes_udp) = (self.device.tcp_gso(), self.device.udp_gso());
        let mut rest = packets;
        while !rest.is_empty() {
            let run =
                if has_offload { first_run(rest, takes_udp) } else { Run { packets: 1, header_bytes: 0 } };
            let (packets, others) = rest.split_at_mut(run.packets.clamp(1, rest.len()));
            let start = if has_offload { HEADROOM - VIRTIO_NET_HDR_LEN } else { HEADROOM };
            // What does not fit now is lost, as everywhere in a network.
            if let Err(error) = self.write(packets, start, HEADROOM.saturating_add(run.header_bytes)) {
                tracing::trace!(%error, "a packet did not fit into the TUN device");
            }
            rest = others;
        }
    }

    /// Writes the first packet from `start` on and, behind it, the others from `payload_at` on.
    fn write(&self, packets: &[Vec<u8>], start: usize, payload_at: usize) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); MAX_SEGMENTS];
        let starts = std::iter::once(start).chain(std::iter::repeat(payload_at));
        for ((slice, packet), from) in slices.iter_mut().zip(packets).zip(starts) {
            *slice = IoSlice::new(packet.get(from..).unwrap_or_default());
        }
        self.device.try_send_vectored(slices.get(..packets.len()).unwrap_or_default())
    }
}

fn open(name: &str, membership: &Membership, has_offload: bool) -> Result<AsyncDevice> {
    let mtu = u16::try_from(MTU).context("the MTU does not fit")?;
    DeviceBuilder::new()
        .name(name)
        .mtu(mtu)
        .ipv4(membership.address_v4, OVERLAY_BITS_V4, None)
        .with(|device| {
            device.offload(has_offload);
        })
        .build_async()
        .with_context(|| {
            format!("the TUN device `{name}` cannot be made: that needs /dev/net/tun and CAP_NET_ADMIN")
        })
}
