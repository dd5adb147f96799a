//! A name server on loopback that says what a test wants it to, over UDP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{RData, Record, RecordType};

/// What is answered to whoever asks for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsAnswer {
    /// These, each for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// This code and nothing else, as SERVFAIL or NXDOMAIN. The code of success makes an empty answer.
    Code(u16),
    /// Nothing at all.
    Silence,
}

/// The server. It ends with its guard; names that it was told nothing of do not exist.
#[derive(Debug)]
pub struct StubDns {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, DnsAnswer>,
    /// To whoever asks for AAAA, instead of the others.
    v6: HashMap<String, DnsAnswer>,
    asked: HashMap<String, u64>,
    is_over: bool,
}

impl DnsAnswer {
    pub const NOTHING: Self = Self::Code(0);
    pub const SERVFAIL: Self = Self::Code(2);
    pub const NXDOMAIN: Self = Self::Code(3);
}

impl StubDns {
    /// # Panics
    /// When there is no socket on loopback.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket on loopback");
        let address = socket.local_addr().expect("a bound socket has an address");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || serve(&socket, &shared));
        Self { address, state, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on `name` is answered so.
    pub fn set(&self, name: &str, answer: DnsAnswer) {
        lock(&self.state).answers.insert(name.to_owned(), answer);
    }

    /// From here on whoever asks for an IPv6 address of `name` is answered so.
    pub fn set_v6(&self, name: &str, answer: DnsAnswer) {
        lock(&self.state).v6.insert(name.to_owned(), answer);
    }

    /// How often somebody has asked for the name, of whatever kind.
    pub fn asked(&self, name: &str) -> u64 {
        lock(&self.state).asked.get(name).copied().unwrap_or_default()
    }
}

impl Drop for StubDns {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        // Wakes it.
        let wake = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|socket| socket.send_to(&[0], self.address));
        if let (Ok(_), Some(thread)) = (wake, self.thread.take()) {
            drop(thread.join());
        }
    }
}

fn serve(socket: &UdpSocket, state: &Mutex<State>) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if lock(state).is_over {
            return;
        }
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        if let Some(answer) = answer(&question, state) {
            let bytes = answer.to_vec().expect("a message that was put together can be written");
            drop(socket.send_to(&bytes, from));
        }
    }
}

fn answer(question: &Message, state: &Mutex<State>) -> Option<Message> {
    let query = question.queries.first()?;
    let name = query.name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let mut state = lock(state);
    *state.asked.entry(name.clone()).or_default() += 1;
    let (id, operation) = (question.metadata.id, question.metadata.op_code);
    let mut message = Message::response(id, operation);
    message.add_query(query.clone());
    let of_v6 = state.v6.get(&name).filter(|_| query.query_type == RecordType::AAAA);
    match of_v6.or_else(|| state.answers.get(&name)).unwrap_or(&DnsAnswer::NXDOMAIN) {
        DnsAnswer::Silence => return None,
        DnsAnswer::Code(code) => message.metadata.response_code = ResponseCode::from(0, low(*code)),
        DnsAnswer::Addresses(addresses, ttl) => {
            for address in addresses {
                let data = match (address, query.query_type) {
                    (IpAddr::V4(ip), RecordType::A) => RData::A(A(*ip)),
                    (IpAddr::V6(ip), RecordType::AAAA) => RData::AAAA(AAAA(*ip)),
                    _ => continue,
                };
                message.add_answer(Record::from_rdata(query.name.clone(), *ttl, data));
            }
        }
    }
    Some(message)
}

fn low(code: u16) -> u8 {
    u8::try_from(code).expect("a code of a plain answer")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
