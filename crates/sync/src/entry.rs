//! Entering a project over a link: by an invitation's secret or by a short code. Like [`crate::Session`] without IO: frames
//! in, effects out. The device that lets in is the host, the one that enters the guest.

use crate::calls::{Answer, Effect, Event, Request};
use crate::limits;
use crate::message::{CloseReason, Message, VERSION};
use cairn_model::DeviceId;
use cairn_trust::{Code, Pairing, link_proof};

/// What a host knows when somebody dials.
#[derive(Clone, Debug)]
pub struct HostSetup {
    /// The device at the other end, by its TLS key.
    pub peer: DeviceId,
    /// 32 bytes of keying material of this TLS session.
    pub exporter: [u8; 32],
    /// This device's display name.
    pub name: String,
    /// Knock keys of invitations.
    pub invitations: Vec<[u8; 32]>,
    /// The short code that is shown, and the ticket it stands for.
    pub code: Option<(Code, String)>,
    /// 32 fresh random bytes.
    pub seed: [u8; 32],
}

#[derive(Debug)]
enum HostState {
    /// The guest may show its join.
    Ready,
    /// The guest must show that it knew the code.
    Pairing {
        guest: [u8; 32],
        host: [u8; 32],
    },
    /// The store looks at the join.
    Asked,
    Closed,
}

/// The host's side of one link.
#[derive(Debug)]
pub struct Host {
    setup: HostSetup,
    state: HostState,
}

type Effects = Vec<Effect>;

fn send(message: &Message) -> Effect {
    Effect::Send(message.encode())
}

impl Host {
    /// With the dialler's first frame; `None` if that is not about entering.
    pub fn accept(setup: HostSetup, first: &[u8]) -> Option<(Self, Effects)> {
        let (state, out) = match Message::decode(first).ok()? {
            Message::Proof(version, proof) => {
                let key = setup.invitations.iter().find(|key| link_proof(key, &setup.exporter, true) == proof)?;
                if version.0 != VERSION.0 {
                    (HostState::Closed, vec![Effect::Close(CloseReason::Protocol)])
                } else {
                    let answer = Message::Host(link_proof(key, &setup.exporter, false), setup.name.clone());
                    (HostState::Ready, vec![send(&answer)])
                }
            }
            Message::Pair(half) => match &setup.code {
                Some((code, _)) => {
                    let (pairing, own) = Pairing::start(code, &setup.exporter, setup.seed);
                    match pairing.finish(&half) {
                        Some((guest, host)) => (HostState::Pairing { guest, host }, vec![send(&Message::Pair(own))]),
                        None => (HostState::Closed, vec![Effect::Close(CloseReason::Malformed)]),
                    }
                }
                // Shown no longer, or tried by somebody else before.
                None => (HostState::Closed, vec![Effect::Close(CloseReason::WrongCode)]),
            },
            _ => return None,
        };
        Some((Self { setup, state }, out))
    }

    /// One step.
    pub fn handle(&mut self, event: Event) -> Effects {
        match (std::mem::replace(&mut self.state, HostState::Closed), event) {
            (HostState::Closed, _) => Vec::new(),
            (state, Event::Changed) => {
                self.state = state;
                Vec::new()
            }
            (HostState::Pairing { guest, host }, Event::Frame(bytes)) => match (Message::decode(&bytes), &self.setup.code) {
                (Ok(Message::Paired(proof)), Some((_, ticket))) if proof == guest => {
                    self.state = HostState::Ready;
                    vec![Effect::CodeTried(true), send(&Message::Paired(host)), send(&Message::Invitation(ticket.clone()))]
                }
                // One guess: whatever it was, the code is used up.
                _ => vec![Effect::CodeTried(false), Effect::Close(CloseReason::WrongCode)],
            },
            (HostState::Ready, Event::Frame(bytes)) => match Message::decode(&bytes) {
                Ok(Message::Enter(op)) if op.len() <= limits::ENTER_BYTES => {
                    self.state = HostState::Asked;
                    vec![Effect::Store(1, Request::Enter(self.setup.peer, op))]
                }
                _ => vec![Effect::Close(CloseReason::Malformed)],
            },
            (HostState::Asked, Event::Answer(_, answer)) => answer_guest(answer),
            _ => vec![Effect::Close(CloseReason::Malformed)],
        }
    }
}

fn answer_guest(answer: Answer) -> Effects {
    match answer {
        Answer::Welcome(ops) => {
            let mut out = vec![Effect::LetIn];
            let mut part = Vec::new();
            let mut bytes = 0;
            for op in ops {
                if bytes + op.len() > limits::CONTROL_PART_BYTES {
                    out.push(send(&Message::Control(std::mem::take(&mut part), false)));
                    bytes = 0;
                }
                bytes += op.len();
                part.push(op);
            }
            out.push(send(&Message::Control(part, true)));
            out.push(Effect::Close(CloseReason::Done));
            out
        }
        Answer::Pending => vec![send(&Message::Pending), Effect::Close(CloseReason::Pending)],
        Answer::InvitationEnded => vec![Effect::Close(CloseReason::InvitationEnded)],
        _ => vec![Effect::Close(CloseReason::Store)],
    }
}

/// How a guest enters.
#[derive(Clone, Debug)]
pub enum Way {
    /// By an invitation: its knock key, and the join.
    Ticket([u8; 32], Vec<u8>),
    /// By a short code.
    Code(Code),
}

/// What a guest's caller must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Send a message (the caller frames it).
    Send(Vec<u8>),
    /// The other device has proved itself; its display name.
    Met(String),
    /// The code was right: the ticket it stood for. Answer with [`Guest::enter`].
    Invited(String),
    /// Let in: the project's control log, with the read keys boxed to this device.
    Welcome(Vec<Vec<u8>>),
    /// The request is noted and waits.
    Pending,
    /// End the link.
    Close(CloseReason),
}

#[derive(Debug)]
enum GuestState {
    Proving { key: [u8; 32], join: Vec<u8> },
    Pairing(Pairing),
    Paired { host: [u8; 32] },
    Invited,
    Entering { ops: Vec<Vec<u8>>, bytes: usize },
    Over,
}

/// The guest's side of one link.
#[derive(Debug)]
pub struct Guest {
    exporter: [u8; 32],
    state: GuestState,
}

impl Guest {
    /// Dials. `seed` is 32 fresh random bytes.
    pub fn dial(exporter: [u8; 32], way: Way, seed: [u8; 32]) -> (Self, Vec<Step>) {
        let (state, first) = match way {
            Way::Ticket(key, join) => {
                let proof = Message::Proof(VERSION, link_proof(&key, &exporter, true));
                (GuestState::Proving { key, join }, proof)
            }
            Way::Code(code) => {
                let (pairing, half) = Pairing::start(&code, &exporter, seed);
                (GuestState::Pairing(pairing), Message::Pair(half))
            }
        };
        (Self { exporter, state }, vec![Step::Send(first.encode())])
    }

    /// After [`Step::Invited`]: the join made for that ticket.
    pub fn enter(&mut self, join: Vec<u8>) -> Vec<Step> {
        self.state = GuestState::Entering { ops: Vec::new(), bytes: 0 };
        vec![Step::Send(Message::Enter(join).encode())]
    }

    /// One frame of the host.
    pub fn handle(&mut self, frame: &[u8]) -> Vec<Step> {
        let Ok(message) = Message::decode(frame) else { return self.stop() };
        match (std::mem::replace(&mut self.state, GuestState::Over), message) {
            (GuestState::Proving { key, join }, Message::Host(proof, name)) => {
                if proof != link_proof(&key, &self.exporter, false) {
                    return vec![Step::Close(CloseReason::NotProved)];
                }
                let mut out = vec![Step::Met(name)];
                out.extend(self.enter(join));
                out
            }
            (GuestState::Pairing(pairing), Message::Pair(half)) => match pairing.finish(&half) {
                Some((guest, host)) => {
                    self.state = GuestState::Paired { host };
                    vec![Step::Send(Message::Paired(guest).encode())]
                }
                None => self.stop(),
            },
            (GuestState::Paired { host }, Message::Paired(proof)) => {
                if proof != host {
                    return vec![Step::Close(CloseReason::WrongCode)];
                }
                self.state = GuestState::Invited;
                Vec::new()
            }
            (GuestState::Invited, Message::Invitation(text)) => vec![Step::Invited(text)],
            (GuestState::Entering { .. }, Message::Pending) => vec![Step::Pending],
            (GuestState::Entering { mut ops, mut bytes }, Message::Control(part, last)) => {
                bytes += part.iter().map(Vec::len).sum::<usize>();
                if bytes > limits::WELCOME_BYTES {
                    return self.stop();
                }
                ops.extend(part);
                if last {
                    return vec![Step::Welcome(ops)];
                }
                self.state = GuestState::Entering { ops, bytes };
                Vec::new()
            }
            _ => self.stop(),
        }
    }

    fn stop(&mut self) -> Vec<Step> {
        self.state = GuestState::Over;
        vec![Step::Close(CloseReason::Malformed)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(code: Option<&str>, exporter: u8) -> HostSetup {
        HostSetup {
            peer: DeviceId([1; 32]),
            exporter: [exporter; 32],
            name: "Ana".into(),
            invitations: vec![[5; 32], [6; 32]],
            code: code.map(|c| (Code::parse(c).unwrap(), "cairn1ticket".into())),
            seed: [2; 32],
        }
    }

    fn sent(effects: &[Effect]) -> Vec<Vec<u8>> {
        effects.iter().filter_map(|e| if let Effect::Send(b) = e { Some(b.clone()) } else { None }).collect()
    }

    fn sends(steps: &[Step]) -> Vec<Vec<u8>> {
        steps.iter().filter_map(|s| if let Step::Send(b) = s { Some(b.clone()) } else { None }).collect()
    }

    #[test]
    fn an_invitation_is_proved_both_ways_before_the_join_is_shown() {
        let (mut guest, first) = Guest::dial([9; 32], Way::Ticket([6; 32], vec![1, 2, 3]), [0; 32]);
        let (mut host, out) = Host::accept(setup(None, 9), &sends(&first)[0]).unwrap();
        let steps = guest.handle(&sent(&out)[0]);
        assert_eq!(steps[0], Step::Met("Ana".into()));
        let asked = host.handle(Event::Frame(sends(&steps)[0].clone()));
        assert_eq!(asked, vec![Effect::Store(1, Request::Enter(DeviceId([1; 32]), vec![1, 2, 3]))]);
        let welcome = host.handle(Event::Answer(1, Answer::Welcome(vec![vec![7; 10], vec![8; 20]])));
        assert_eq!(welcome[0], Effect::LetIn);
        assert_eq!(guest.handle(&sent(&welcome)[0]), vec![Step::Welcome(vec![vec![7; 10], vec![8; 20]])]);
    }

    /// Row 6: whoever sits between two channels has another exporter, so that neither proof fits.
    #[test]
    fn row_6_a_man_in_the_middle_proves_nothing() {
        let (_, first) = Guest::dial([9; 32], Way::Ticket([6; 32], vec![1]), [0; 32]);
        assert!(Host::accept(setup(None, 8), &sends(&first)[0]).is_none());
        let (mut guest, _) = Guest::dial([9; 32], Way::Ticket([6; 32], vec![1]), [0; 32]);
        let forged = Message::Host([0; 32], "Mallory".into()).encode();
        assert_eq!(guest.handle(&forged), vec![Step::Close(CloseReason::NotProved)]);
    }

    fn try_code(shown: &str, typed: &str, host_exporter: u8) -> (Effects, Vec<Step>) {
        let (mut guest, first) = Guest::dial([9; 32], Way::Code(Code::parse(typed).unwrap()), [3; 32]);
        let (mut host, out) = Host::accept(setup(Some(shown), host_exporter), &sends(&first)[0]).unwrap();
        let proof = guest.handle(&sent(&out)[0]);
        let tried = host.handle(Event::Frame(sends(&proof)[0].clone()));
        let steps = sent(&tried).iter().flat_map(|frame| guest.handle(frame)).collect();
        (tried, steps)
    }

    #[test]
    fn the_right_code_brings_the_ticket() {
        let (tried, steps) = try_code("7-482-193", "7 482 193", 9);
        assert_eq!(tried[0], Effect::CodeTried(true));
        assert_eq!(steps, vec![Step::Invited("cairn1ticket".into())]);
    }

    /// Row 7: one guess. A wrong code, or the right one through a man in the middle, uses it up.
    #[test]
    fn row_7_a_wrong_code_burns_it() {
        for (typed, exporter) in [("7-482-194", 9), ("7-482-193", 8)] {
            let (tried, steps) = try_code("7-482-193", typed, exporter);
            assert_eq!(tried, vec![Effect::CodeTried(false), Effect::Close(CloseReason::WrongCode)]);
            assert_eq!(steps, vec![]);
        }
        let (_, first) = Guest::dial([9; 32], Way::Code(Code::parse("7-482-193").unwrap()), [3; 32]);
        let (mut host, out) = Host::accept(setup(None, 9), &sends(&first)[0]).unwrap();
        assert_eq!(out, vec![Effect::Close(CloseReason::WrongCode)], "it is shown no longer");
        assert_eq!(host.handle(Event::Frame(vec![])), vec![]);
    }
}
