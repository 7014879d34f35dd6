//! DNS messages: what is a query, and how long its answer may be.

use hickory_proto::op::{self, Edns, Header, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

/// Longest datagram that is sent as an answer, unless somebody else wrote it: what EDNS recommends (RFC 9715, DNS flag day 2020).
pub const MAX_DATAGRAM_BYTES: usize = 1232;
/// Longest message there is: TCP tells its length in two bytes (RFC 1035, 4.2.2).
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// A message begins with so many bytes (RFC 1035, 4.1.1).
const HEADER_BYTES: usize = 12;
/// The version of EDNS that is spoken (RFC 6891, 6.1.3).
const EDNS_VERSION: u8 = 0;

/// By what a query came, and its answer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// An answer that is too long says so (TC), and is asked for again over TCP.
    Udp,
    /// An answer may be as long as a message can be.
    Tcp,
}

/// A query that can be answered.
#[derive(Debug, Clone)]
pub struct Query {
    message: Message,
}

/// What came is no query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswerable {
    /// It is no query at all, or somebody's answer: an answer to it could be answered again, without end.
    Silence,
    /// It is not understood, and this says so.
    Malformed(Vec<u8>),
}

impl Query {
    /// Reads a message.
    pub fn read(bytes: &[u8]) -> Result<Self, Unanswerable> {
        let [id_high, id_low, flags, ..] = bytes else { return Err(Unanswerable::Silence) };
        let is_response = flags & 0x80 != 0;
        if bytes.len() < HEADER_BYTES || bytes.len() > MAX_MESSAGE_BYTES || is_response {
            return Err(Unanswerable::Silence);
        }
        Message::from_vec(bytes).map(|message| Self { message }).map_err(|_| {
            let id = u16::from_be_bytes([*id_high, *id_low]);
            let error = Message::error_msg(id, OpCode::from_u8(flags >> 3 & 0x0F), ResponseCode::FormErr);
            error.to_vec().map_or(Unanswerable::Silence, Unanswerable::Malformed)
        })
    }

    /// The one question, if there is one and no more, and it asks for a name.
    pub fn question(&self) -> Option<&op::Query> {
        match self.message.queries.as_slice() {
            [question] if self.message.metadata.op_code == OpCode::Query => Some(question),
            _ => None,
        }
    }

    /// The longest answer that whoever asked takes.
    pub fn limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Udp => usize::from(self.message.max_payload()),
            Transport::Tcp => MAX_MESSAGE_BYTES,
        }
    }

    /// The answer that nothing can be said now.
    pub fn failure(&self, transport: Transport) -> Vec<u8> {
        self.answer(transport, |_| ResponseCode::ServFail)
    }

    /// The answer that `fill` makes, as long as it may be.
    pub(super) fn answer(
        &self,
        transport: Transport,
        fill: impl FnOnce(&mut Message) -> ResponseCode,
    ) -> Vec<u8> {
        let asked = &self.message;
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_desired = asked.metadata.recursion_desired;
        if asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(u16::try_from(MAX_DATAGRAM_BYTES).unwrap_or(u16::MAX));
            answer.set_edns(edns);
        }
        if let Some(question) = self.question() {
            answer.add_query(question.clone());
        }
        answer.metadata.response_code = if asked.version() > EDNS_VERSION {
            ResponseCode::BADVERS
        } else if asked.metadata.op_code == OpCode::Query {
            fill(&mut answer)
        } else {
            ResponseCode::NotImp
        };
        let limit = match transport {
            Transport::Udp => self.limit(transport).min(MAX_DATAGRAM_BYTES),
            Transport::Tcp => MAX_MESSAGE_BYTES,
        };
        match answer.to_vec() {
            Ok(bytes) if bytes.len() <= limit => bytes,
            // Nothing of it is sent: whoever takes a part for the whole would miss addresses without knowing.
            _ => answer.truncate().to_vec().unwrap_or_default(),
        }
    }

    /// Whether a message answers this query: the same question, under this number. The rest of it is not looked at: it may hold
    /// what is not known here.
    pub fn is_answered_by(&self, id: u16, message: &[u8]) -> bool {
        let mut decoder = BinDecoder::new(message);
        let Ok(header) = Header::read(&mut decoder) else { return false };
        let is_answer = header.metadata.message_type == MessageType::Response && header.metadata.id == id;
        let asked = &self.message.queries;
        is_answer
            && usize::from(header.counts.queries) == asked.len()
            && Message::read_queries(&mut decoder, asked.len()).is_ok_and(|queries| queries == *asked)
    }
}
