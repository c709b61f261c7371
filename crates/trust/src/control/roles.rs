//! What each role may do: one table. ARCHITECTURE.md shows the same.

/// What a device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Invites and removes; writes configuration and observations.
    Coordinator,
    /// Writes observations.
    Member,
    /// Reads.
    Observer,
    /// Reads and keeps all history.
    Archive,
}

/// One row of the table. Every role reads and forwards everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: Role,
    /// The word on the command line.
    pub word: &'static str,
    /// Number in control operations.
    pub number: u8,
    /// Invites, approves, removes juniors, accepts from quarantine, sets policy.
    pub governs: bool,
    /// Writes the configuration.
    pub configuration: bool,
    /// Writes observations.
    pub observations: bool,
    /// In words, for people.
    pub says: &'static str,
}

/// The table.
pub const ROLES: [Rights; 4] = [
    Rights {
        role: Role::Coordinator,
        word: "coordinator",
        number: 1,
        governs: true,
        configuration: true,
        observations: true,
        says: "reads everything, writes observations and the configuration, lets devices in and out",
    },
    Rights {
        role: Role::Member,
        word: "member",
        number: 2,
        governs: false,
        configuration: false,
        observations: true,
        says: "reads everything, writes observations",
    },
    Rights {
        role: Role::Observer,
        word: "observer",
        number: 3,
        governs: false,
        configuration: false,
        observations: false,
        says: "reads everything, writes nothing",
    },
    Rights {
        role: Role::Archive,
        word: "archive",
        number: 4,
        governs: false,
        configuration: false,
        observations: false,
        says: "reads everything, keeps all history, writes nothing",
    },
];

impl Role {
    /// Its row.
    pub fn rights(self) -> &'static Rights {
        let at = match self {
            Role::Coordinator => 0,
            Role::Member => 1,
            Role::Observer => 2,
            Role::Archive => 3,
        };
        &ROLES[at]
    }

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        self.rights().word
    }

    /// The role behind a word.
    pub fn from_word(word: &str) -> Option<Self> {
        ROLES.iter().find(|r| r.word == word).map(|r| r.role)
    }

    pub(crate) fn number(self) -> u8 {
        self.rights().number
    }

    pub(crate) fn from_number(n: u8) -> Option<Self> {
        ROLES.iter().find(|r| r.number == n).map(|r| r.role)
    }

    /// May write observations.
    pub fn writes_observations(self) -> bool {
        self.rights().observations
    }

    /// May write the configuration.
    pub fn writes_configuration(self) -> bool {
        self.rights().configuration
    }
}
