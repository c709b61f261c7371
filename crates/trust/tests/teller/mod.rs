//! Tells histories of the control log from lines such as `r: A removes B lost after b c`.
//!
//! Without `after`, an operation knows everything told before. A device is a letter (or `@number`); `WORDS` are the
//! recovery words. An operation that is not admitted is told all the same and noted as refused.

use cairn_model::{DeviceId, DocId, ProjectId};
use cairn_trust::*;
use std::collections::BTreeMap;

pub fn keys(name: &str) -> DeviceKeys {
    let mut seed = [0; 32];
    seed[..name.len()].copy_from_slice(name.as_bytes());
    DeviceKeys::from_seed(seed)
}

pub fn device(letter: char) -> DeviceId {
    keys(&letter.to_string()).device()
}

fn words() -> RecoveryWords {
    RecoveryWords::new([0xbb; 32])
}

pub struct Teller {
    pub log: Log,
    labels: Vec<(String, ControlHash)>,
    all: Vec<ControlOp>,
    refused: Vec<String>,
    secrets: BTreeMap<ControlHash, DeviceKeys>,
    names: BTreeMap<DeviceId, String>,
    first: EpochKey,
}

impl Default for Teller {
    fn default() -> Self {
        let (labels, all, refused, secrets, names) = Default::default();
        Self { log: Log::new(ProjectId([0; 32])), labels, all, refused, secrets, names, first: EpochKey([1; 32]) }
    }
}

impl Teller {
    pub fn labels(&self) -> Vec<String> {
        self.labels.iter().map(|(l, _)| l.clone()).collect()
    }

    pub fn ops(&self) -> Vec<ControlOp> {
        self.all.clone()
    }

    fn hash(&self, label: &str) -> ControlHash {
        self.labels.iter().find(|(l, _)| l == label).unwrap_or_else(|| panic!("no `{label}`")).1
    }

    fn keys(&mut self, name: &str) -> DeviceKeys {
        let keys = keys(name);
        self.names.insert(keys.device(), name.to_owned());
        keys
    }

    /// An operation made elsewhere.
    pub fn take(&mut self, op: ControlOp) {
        if matches!(op.body, OpBody::Genesis(_)) {
            self.log = Log::new(op.hash.project());
        }
        let label = format!("t{}", self.labels.len());
        self.put(&label, op);
    }

    fn put(&mut self, label: &str, op: ControlOp) {
        self.labels.push((label.to_owned(), op.hash));
        self.all.push(op.clone());
        if self.log.admit(op).is_err() {
            self.refused.push(label.to_owned());
        }
    }

    pub fn tell(&mut self, line: &str) {
        let (label, rest) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}`"));
        let (said, after) = rest.split_once(" after ").map_or((rest, None), |(a, b)| (a, Some(b)));
        let parents: Vec<ControlHash> = match after {
            Some(labels) => {
                let mut hashes: Vec<_> = labels.split(' ').map(|l| self.hash(l)).collect();
                hashes.sort_unstable();
                hashes.dedup();
                hashes
            }
            None => self.log.heads(),
        };
        let word: Vec<&str> = said.split(' ').collect();
        let who = word[0].to_owned();
        if word[1] == "founds" {
            let op = self.found(&who);
            self.log = Log::new(op.hash.project());
            return self.put(label, op);
        }
        let project = self.log.project();
        if word[1] == "joins" {
            let invite = self.hash(word[2]);
            let secret = self.secrets[&invite].clone();
            let keys = self.keys(&who);
            let mut op = ControlOp::join(&keys, &project, invite, &who, &secret, None);
            if after.is_some() {
                // A hostile guest writes what it likes around the same proof.
                let mut known = parents;
                known.push(invite);
                known.sort_unstable();
                known.dedup();
                op = ControlOp::issue(Issuer::Device(&keys), &project, known, 0, op.body);
            }
            return self.put(label, op);
        }
        let (body, secret) = self.body(label, &who, &word[1..], &parents);
        let recovery = words();
        let own = self.keys(&who);
        let issuer = if who == "WORDS" { Issuer::Recovery(&recovery) } else { Issuer::Device(&own) };
        let op = ControlOp::issue(issuer, &project, parents, 0, body);
        if let Some(secret) = secret {
            self.secrets.insert(op.hash, secret);
        }
        self.put(label, op);
    }

    fn found(&mut self, who: &str) -> ControlOp {
        let keys = self.keys(who);
        let genesis = Genesis {
            name: "River".into(),
            founder_name: who.into(),
            agreement_key: keys.agreement_key(),
            recovery_key: words().public_key(),
            configuration: DocId([6; 16]),
            format_major: 1,
            members_edit_others: true,
            open: false,
            random: [0xdd; 32],
            epoch: Some(self.first.id()),
        };
        ControlOp::genesis(&keys, &genesis)
    }

    fn body(&mut self, label: &str, who: &str, word: &[&str], parents: &[ControlHash]) -> (OpBody, Option<DeviceKeys>) {
        let role = |n: usize| Role::from_word(word[n]).unwrap_or_else(|| panic!("no role `{}`", word[n]));
        let body = match word[0] {
            "adds" => {
                let keys = self.keys(word[1]);
                OpBody::Add(Add { device: keys.device(), name: word[1].into(), agreement_key: keys.agreement_key(), role: role(2) })
            }
            "makes" => OpBody::SetRole(SetRole { device: self.keys(word[1]).device(), role: role(2), cuts: vec![] }),
            "removes" => {
                let mode = match word[2] {
                    "left" => RemoveMode::Left,
                    "lost" => RemoveMode::Lost,
                    "compromised" => RemoveMode::Compromised,
                    _ => RemoveMode::Refused,
                };
                OpBody::Remove(Remove { device: self.keys(word[1]).device(), mode, cuts: vec![] })
            }
            "leaves" => OpBody::Remove(Remove { device: keys(who).device(), mode: RemoveMode::Left, cuts: vec![] }),
            "invites" => {
                let secret = keys(&format!("secret {label}"));
                let mode = match word.get(3) {
                    Some(&"approve") => InviteMode::Approve,
                    Some(&"meet") => InviteMode::Meet,
                    _ => InviteMode::Bearer,
                };
                let uses = word[2].parse().expect("a number");
                return (OpBody::Invite(Invite { key: secret.device().0, role: role(1), uses, mode }), Some(secret));
            }
            "revokes" => OpBody::Revoke(self.hash(word[1])),
            "rotates" => {
                // What the minter knows: the log of its parents alone.
                let mut known = Log::new(self.log.project());
                for op in self.log.ops().filter(|op| self.log.sees(parents, &op.hash)) {
                    known.admit(op.clone()).expect("admitted before");
                }
                let readers: Vec<_> = evaluate(&known).members.values().map(|m| (m.device, m.agreement_key)).collect();
                let ring = Keyring { discovery: [9; 32], keys: vec![self.first.clone()] };
                let mut seed = [7; 32];
                seed[..label.len()].copy_from_slice(label.as_bytes());
                OpBody::Epoch(mint(&self.log.project(), &ring, &readers, seed).expect("few readers").1)
            }
            other => panic!("cannot tell `{other}`"),
        };
        (body, None)
    }

    /// What is so, in the words and for the subjects of `expected`.
    pub fn outcome(&self, expected: &str) -> String {
        let m = evaluate(&self.log);
        let name = |d: &DeviceId| self.names.get(d).cloned().unwrap_or_default();
        let label = |h: &ControlHash| self.labels.iter().find(|(_, o)| o == h).map(|(l, _)| l.clone()).unwrap_or_default();
        let list = |mut all: Vec<String>| {
            all.sort();
            if all.is_empty() { "nobody".to_owned() } else { all.join(" ") }
        };
        let (head, _) = expected.split_once(": ").unwrap_or_else(|| panic!("`{expected}`"));
        let said = match head {
            "void" => list(m.void.iter().map(label).collect()),
            "refused" => list(self.refused.clone()),
            "removed" => list(m.former.keys().map(name).collect()),
            "asks" => list(m.pending.iter().filter(|p| !p.refused).map(|p| name(&p.device)).collect()),
            "epoch" => {
                let used = m.epoch_to_use(Some(self.first.id()), &|_| true);
                let minted = m.epochs.iter().find(|e| Some(e.id) == used).map(|e| label(&e.op));
                minted.or(used.map(|_| "first".to_owned())).unwrap_or_else(|| "none".into())
            }
            role => list(m.members.values().filter(|m| m.role.word() == role).map(|m| name(&m.device)).collect()),
        };
        format!("{head}: {said}")
    }
}
