//! WireGuard, by boringtun's `noise` alone, with what 0.7.1 leaves to its caller.
//!
//! - Indices are random and of 24 bits: boringtun puts the session's number into the low 8 bits, so `receiver >> 8`
//!   finds the tunnel.
//! - Payloads are padded to 16 bytes, as the protocol wants; the receiver cuts them by their IP length.
//! - First handshakes are sent again by the engine's clock, soon and with jitter; boringtun's own five seconds stay as a
//!   safety net.
//! - A stranger's initiation costs a limiter's look and one BLAKE2s (mac1) before any curve operation, and mac1 also tells
//!   which of our keys it is for while two are in use.
//! - Buffers are never smaller than boringtun needs, or it would panic.
//! - boringtun's state is made when the first message needs it, and dropped when nothing does any more.
//!
//! boringtun reads the clock itself; this is the only place in the engine where time is not an argument.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake2::digest::consts::U16;
use blake2::digest::{Digest, Mac};
use blake2::{Blake2s256, Blake2sMac};
use boringtun::noise::errors::WireGuardError;
use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Packet as Message, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use rand::Rng;

use super::mtu::MTU;
use super::output::HEADROOM;

/// Longest datagram that is looked at.
pub(super) const MAX_DATAGRAM_BYTES: usize = 2048;

/// The longest handshake message, which boringtun may write wherever it writes something.
const HANDSHAKE_BYTES: usize = 148;
/// boringtun writes a packet and 32 bytes, or a handshake message.
const BUFFER_BYTES: usize = MAX_DATAGRAM_BYTES + 256;
/// The first byte of a message that carries a packet.
const DATA: u8 = 4;

/// What boringtun is asked for until a handshake is answered. The first are quick, because the other end may have
/// verified the authorization a moment later than this one.
const RETRY_MILLISECONDS: [u64; 6] = [150, 300, 600, 1_000, 2_000, 4_000];

/// From so many tries on, about a second, it may be the way that is at fault.
const UNHEARD: usize = 3;

/// How long a handshake is tried before it is given up until there is something to say: WireGuard's own REKEY_ATTEMPT_TIME.
const ATTEMPT: Duration = Duration::from_secs(90);
/// How long packets are taken under a session: WireGuard's own REJECT_AFTER_TIME.
pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(180);

/// boringtun asks for cookies above this many handshakes a second, over all peers. The limiter in front of it is stricter
/// per source.
const HANDSHAKES_PER_SECOND: u64 = 500;

/// One of this node's WireGuard keys.
pub(super) struct OwnKey {
    secret: StaticSecret,
    public: PublicKey,
    mac1_key: [u8; 32],
    limiter: Arc<RateLimiter>,
}

impl OwnKey {
    pub fn new(secret: StaticSecret) -> Self {
        let public = PublicKey::from(&secret);
        let mac1_key = Blake2s256::new().chain_update(b"mac1----").chain_update(public.as_bytes()).finalize();
        let limiter = Arc::new(RateLimiter::new(&public, HANDSHAKES_PER_SECOND));
        Self { secret, public, mac1_key: mac1_key.into(), limiter }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// To be called every second.
    pub fn reset_limiter(&self) {
        self.limiter.reset_count();
    }

    /// Who begins this handshake, which is with this key.
    pub fn initiator(&self, datagram: &[u8]) -> Option<PublicKey> {
        let Ok(Message::HandshakeInit(init)) = Tunn::parse_incoming_packet(datagram) else { return None };
        let half = parse_handshake_anon(&self.secret, &self.public, &init).ok()?;
        Some(PublicKey::from(half.peer_static_public))
    }

    /// Whether a handshake is with this key, as whoever knows it can say. mac1 covers all but the last 32 bytes and follows them.
    pub fn is_addressed_by(&self, datagram: &[u8]) -> bool {
        let Some(covered) = datagram.len().checked_sub(32) else { return false };
        let (Some(message), Some(mac1)) = (datagram.get(..covered), datagram.get(covered..covered + 16))
        else {
            return false;
        };
        let Ok(mac) = <Blake2sMac<U16> as blake2::digest::KeyInit>::new_from_slice(&self.mac1_key) else {
            return false;
        };
        mac.chain_update(message).verify_slice(mac1).is_ok()
    }
}

/// What kind of WireGuard message a datagram is, and to which tunnel it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// A handshake that a peer begins.
    Initiation,
    /// A message to the tunnel with this index.
    Tunnel(u32),
    /// Nothing of WireGuard.
    Nowhere,
}

pub(super) fn address_of(datagram: &[u8]) -> Address {
    match Tunn::parse_incoming_packet(datagram) {
        Ok(Message::HandshakeInit(_)) => Address::Initiation,
        Ok(Message::HandshakeResponse(message)) => Address::Tunnel(message.receiver_idx >> 8),
        Ok(Message::PacketCookieReply(message)) => Address::Tunnel(message.receiver_idx >> 8),
        Ok(Message::PacketData(message)) => Address::Tunnel(message.receiver_idx >> 8),
        Err(_) => Address::Nowhere,
    }
}

/// What came of a datagram.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// WireGuard accepted it: it is from the peer.
    pub authentic: bool,
    /// There is an IP packet in the buffer, still to be filtered.
    pub has_packet: bool,
    /// To be sent back the way it came: a handshake's answer.
    pub reply: Option<Vec<u8>>,
    /// To be sent by the path of the moment: a keepalive and what was queued for the handshake.
    pub send: Vec<Vec<u8>>,
}

/// One WireGuard tunnel: one of our keys with one of a peer's.
///
/// It sleeps until the first message, and again once every session has run out or a handshake was given up. What it forgets
/// then is the time of the peer's newest handshake: that one, sent again by somebody, is answered as after a new start, and the
/// answer is of use to the peer alone.
pub(super) struct Tunnel {
    /// Eleven thousand bytes; none while it sleeps.
    tunn: Option<Box<Tunn>>,
    index: u32,
    ours: Arc<OwnKey>,
    theirs: PublicKey,
    established: Option<Instant>,
    retry: Option<Retry>,
    /// boringtun holds packets until there is a session.
    has_queued: bool,
    /// When something was sent or taken last.
    used: Instant,
}

/// A handshake that is not answered.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    tries: usize,
    since: Instant,
}

impl Tunnel {
    pub fn new(now: Instant, ours: &Arc<OwnKey>, theirs: PublicKey, index: u32) -> Self {
        let ours = ours.clone();
        Self { tunn: None, index, ours, theirs, established: None, retry: None, has_queued: false, used: now }
    }

    /// boringtun's state, which something needs now.
    fn wake(&mut self, now: Instant) -> &mut Tunn {
        self.used = now;
        self.tunn.get_or_insert_with(|| {
            let (secret, limiter) = (self.ours.secret.clone(), Some(self.ours.limiter.clone()));
            Box::new(Tunn::new(secret, self.theirs, None, None, self.index, limiter))
        })
    }

    fn sleep(&mut self) {
        (self.tunn, self.established, self.retry, self.has_queued) = (None, None, None, false);
    }

    /// Whether there is a session or a handshake, or was of late.
    pub fn is_awake(&self) -> bool {
        self.tunn.is_some()
    }

    pub fn index(&self) -> u32 {
        self.index
    }

    pub fn ours(&self) -> &PublicKey {
        &self.ours.public
    }

    pub fn theirs(&self) -> &PublicKey {
        &self.theirs
    }

    /// When the handshake first completed.
    pub fn established(&self) -> Option<Instant> {
        self.established
    }

    /// How long ago the newest handshake completed.
    pub fn last_handshake(&self) -> Option<Duration> {
        self.tunn.as_ref()?.time_since_last_handshake()
    }

    /// Encrypts a packet, or queues it and begins a handshake. Gives what is to be sent.
    pub fn seal(&mut self, now: Instant, packet: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = Vec::new();
        self.seal_into(now, packet, &mut sealed).or(Some(sealed).filter(|sealed| !sealed.is_empty()))
    }

    /// Encrypts a packet behind what a buffer holds: [`sealed_length`] bytes. Without a session it is queued, nothing is
    /// written, and the first message of a handshake is given if one is to be sent.
    pub fn seal_into(&mut self, now: Instant, packet: &[u8], out: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut padded;
        let length = padded_length(packet.len());
        let plain = if length == packet.len() {
            packet
        } else {
            padded = [0; MAX_DATAGRAM_BYTES];
            padded.get_mut(..packet.len())?.copy_from_slice(packet);
            padded.get(..length)?
        };
        if plain.len() > MAX_DATAGRAM_BYTES {
            return None;
        }
        let start = out.len();
        out.resize(start.saturating_add(length.saturating_add(32).max(HANDSHAKE_BYTES)), 0);
        let sealed = written(self.wake(now).encapsulate(plain, out.get_mut(start..)?));
        if let Some(length) = sealed.filter(|_| out.get(start) == Some(&DATA)) {
            out.truncate(start.saturating_add(length));
            return None;
        }
        let handshake = sealed.and_then(|length| Some(out.get(start..)?.get(..length)?.to_vec()));
        out.truncate(start);
        self.has_queued = true;
        self.await_answer(now);
        handshake
    }

    /// Begins a handshake.
    pub fn initiate(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut buffer = [0; HANDSHAKE_BYTES];
        let sent = copied(self.wake(now).format_handshake_initiation(&mut buffer, false));
        self.await_answer(now);
        sent
    }

    fn await_answer(&mut self, now: Instant) {
        if self.established.is_none() && self.retry.is_none() {
            self.retry_after(now, Duration::from_millis(RETRY_MILLISECONDS[0]));
        }
    }

    /// Begins a handshake after a while, unless the peer has by then.
    pub fn retry_after(&mut self, now: Instant, wait: Duration) {
        self.retry = now.checked_add(wait).map(|at| Retry { at, tries: 0, since: now });
    }

    /// Takes a datagram of this tunnel. A packet in it is put into `buffer`, behind [`HEADROOM`] bytes.
    pub fn open(
        &mut self,
        now: Instant,
        from: Option<IpAddr>,
        datagram: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Opened {
        let mut opened = Opened::default();
        if datagram.len() > MAX_DATAGRAM_BYTES {
            return opened;
        }
        let is_initiation = matches!(address_of(datagram), Address::Initiation);
        let is_cookie = datagram.first() == Some(&3);
        if !is_initiation && !self.is_awake() {
            return opened;
        }
        let used = self.used;
        buffer.clear();
        buffer.resize(HEADROOM.saturating_add(datagram.len().max(HANDSHAKE_BYTES)), 0);
        match self.wake(now).decapsulate(from, datagram, buffer.get_mut(HEADROOM..).unwrap_or_default()) {
            TunnResult::Done => opened.authentic = !is_cookie,
            TunnResult::Err(_) => {
                self.used = used;
                return opened;
            }
            TunnResult::WriteToNetwork(bytes) if is_initiation => {
                // A cookie reply (64 bytes) is sent to strangers too; an answer only to the peer.
                opened.authentic = bytes.first() == Some(&2);
                opened.reply = Some(bytes.to_vec());
                return opened;
            }
            TunnResult::WriteToNetwork(bytes) => {
                opened.authentic = true;
                opened.send.push(bytes.to_vec());
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                opened.authentic = true;
                let length = packet.len();
                opened.has_packet = true;
                buffer.truncate(HEADROOM.saturating_add(length));
            }
        }
        if opened.authentic {
            self.established.get_or_insert(now);
            self.retry = None;
            if self.has_queued {
                self.flush_queued(now, &mut opened.send);
            }
        }
        opened
    }

    /// Whatever was queued while there was no session.
    fn flush_queued(&mut self, now: Instant, send: &mut Vec<Vec<u8>>) {
        let (mut buffer, tunn) = ([0; BUFFER_BYTES], self.wake(now));
        while let TunnResult::WriteToNetwork(bytes) = tunn.decapsulate(None, &[], &mut buffer) {
            send.push(bytes.to_vec());
        }
        self.has_queued = false;
    }

    /// Runs WireGuard's own timers: keepalives and new handshakes. To be called every [`TICK`] while it is awake.
    pub fn tick(&mut self, now: Instant) -> Option<Vec<u8>> {
        let mut buffer = [0; HANDSHAKE_BYTES];
        let tunn = self.tunn.as_mut()?;
        match tunn.update_timers(&mut buffer) {
            // Nobody has answered for long, and what was queued is lost.
            TunnResult::Err(WireGuardError::ConnectionExpired) => self.sleep(),
            result => {
                let sent = copied(result);
                let has_lapsed = tunn.time_since_last_handshake().is_none()
                    && now.saturating_duration_since(self.used) >= SESSION_LIFETIME;
                if sent.is_none() && has_lapsed && self.retry.is_none() {
                    self.sleep();
                }
                return sent;
            }
        }
        None
    }

    /// Sends an unanswered first handshake again when its time has come.
    pub fn retry(&mut self, now: Instant, random: &mut impl Rng) -> Option<Vec<u8>> {
        let Retry { at, tries, since } = self.retry.filter(|retry| retry.at <= now)?;
        let tries = tries + 1;
        let wait = RETRY_MILLISECONDS.get(tries).or(RETRY_MILLISECONDS.last()).copied().unwrap_or(4_000);
        let jitter = random.random_range(0..=wait / 4);
        let next = at.max(now).checked_add(Duration::from_millis(wait + jitter));
        self.retry = next.map(|at| Retry { at, tries, since });
        let mut buffer = [0; HANDSHAKE_BYTES];
        copied(self.wake(now).format_handshake_initiation(&mut buffer, true))
    }

    /// Whether a first handshake was sent a few times already and not answered.
    pub fn is_unheard(&self) -> bool {
        self.retry.is_some_and(|retry| retry.tries >= UNHEARD)
    }

    /// Gives up a handshake that was tried for long enough. The next packet begins anew.
    pub fn give_up(&mut self, now: Instant) {
        if self.retry.is_some_and(|retry| now.saturating_duration_since(retry.since) >= ATTEMPT) {
            self.sleep();
        }
    }

    /// When [`Self::retry`] has something to do.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry.map(|retry| retry.at)
    }
}

/// How often WireGuard's timers run.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// Length of a packet once it is sealed.
pub(super) fn sealed_length(packet: usize) -> usize {
    padded_length(packet).saturating_add(32)
}

fn padded_length(packet: usize) -> usize {
    packet.next_multiple_of(16).min(packet.max(MTU))
}

fn copied(result: TunnResult<'_>) -> Option<Vec<u8>> {
    match result {
        TunnResult::WriteToNetwork(bytes) => Some(bytes.to_vec()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

fn written(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(bytes) => Some(bytes.len()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}
