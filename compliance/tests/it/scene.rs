//! Records to assess, made by hand.

use jiff::{SignedDuration, Timestamp};
use writ_compliance::entry::{Entry, Fact};
use writ_compliance::evidence::{Checkpoint, Period, Snapshot, gather};
use writ_compliance::framework::Framework;
use writ_compliance::memory::Records;
use writ_schema::event::{AcknowledgedAction, NodeOwner, Role, Side};
use writ_schema::{
    Actor, AdminId, AuthorizationId, EnrolmentKeyId, NodeId, PolicyVersion, ProposalId, Seq, UserId,
};

pub const DAY: i64 = 86_400;

pub fn admin(n: u8) -> AdminId {
    AdminId::from_bytes([n; 16])
}

pub fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub fn node(n: u8) -> NodeId {
    NodeId::from_bytes([n; 16])
}

pub fn key(n: u8) -> EnrolmentKeyId {
    EnrolmentKeyId::from_bytes([n; 16])
}

pub fn authorization(n: u16) -> AuthorizationId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    AuthorizationId::from_bytes(bytes)
}

pub fn proposal(n: u8) -> ProposalId {
    ProposalId::from_bytes([n; 16])
}

/// The period of every scene: October 2026.
pub fn period() -> Period {
    Period { from: at(0), to: at(31 * DAY) }
}

/// Seconds after the period's beginning; before it if negative.
pub fn at(seconds: i64) -> Timestamp {
    let from: Timestamp = "2026-10-01T00:00:00Z".parse().unwrap();
    from + SignedDuration::from_secs(seconds)
}

/// A log under way. Each record gets the next number.
#[derive(Default)]
pub struct Scene(Vec<Entry>);

impl Scene {
    pub fn add(&mut self, seconds: i64, kind: &'static str, fact: Fact) -> Seq {
        self.caused(seconds, kind, fact, Actor::Admin(admin(1)), None)
    }

    pub fn by(&mut self, seconds: i64, actor: Actor, kind: &'static str, fact: Fact) -> Seq {
        self.caused(seconds, kind, fact, actor, None)
    }

    pub fn caused(
        &mut self,
        seconds: i64,
        kind: &'static str,
        fact: Fact,
        actor: Actor,
        cause: Option<Seq>,
    ) -> Seq {
        let seq = Seq(self.0.len() as u64);
        self.0.push(Entry { seq, time: at(seconds), actor, cause, kind, fact });
        seq
    }

    pub fn authorize(&mut self, seconds: i64, n: u16, policy: u64) -> Seq {
        let fact = Fact::Authorized {
            authorization: authorization(n),
            policy: PolicyVersion(policy),
            has_rule: true,
            by_device_key: true,
            renews: None,
            expires_at: at(seconds + 3600),
        };
        self.by(seconds, Actor::Agent, "connection.authorized", fact)
    }

    pub fn deny(&mut self, seconds: i64, count: u32) -> Seq {
        self.by(seconds, Actor::Agent, "connection.denied", Fact::Denied { by_default: true, count })
    }

    pub fn join(&mut self, seconds: i64, n: u8, owner: NodeOwner) -> Seq {
        let fact = Fact::NodeJoined { node: node(n), owner, key: key(n) };
        self.by(seconds, Actor::Node(node(n)), "node.joined", fact)
    }

    pub fn key(&mut self, seconds: i64, n: u8, max_uses: u32, until: i64) -> Seq {
        let fact = Fact::EnrolKeyCreated { key: key(n), max_uses, expires_at: at(until) };
        self.add(seconds, "enrol_key.created", fact)
    }

    pub fn propose(&mut self, seconds: i64, by: u8, n: u8, tests_passed: u64) -> Seq {
        let fact = Fact::ChangeProposed { proposal: proposal(n), tests_passed };
        self.by(seconds, Actor::Admin(admin(by)), "policy.change_proposed", fact)
    }

    pub fn activate(&mut self, seconds: i64, by: u8, n: u8) -> Seq {
        let fact = Fact::PolicyActivated { version: PolicyVersion(n.into()), proposal: proposal(n) };
        self.by(seconds, Actor::Admin(admin(by)), "policy.activated", fact)
    }

    pub fn revoke(&mut self, seconds: i64, n: u16, cause: Seq) -> Seq {
        let fact = Fact::Revoked { authorization: authorization(n) };
        self.caused(seconds, "connection.revoked", fact, Actor::System, Some(cause))
    }

    pub fn acknowledge(&mut self, seconds: i64, record: Seq, side: Side) -> Seq {
        let fact = Fact::Acknowledged { record, side, action: AcknowledgedAction::Withdrawn };
        self.by(seconds, Actor::Agent, "connection.acknowledged", fact)
    }

    pub fn acknowledge_both(&mut self, seconds: i64, record: Seq) {
        self.acknowledge(seconds, record, Side::Source);
        self.acknowledge(seconds, record, Side::Destination);
    }

    pub fn records(self) -> Records {
        Records::new("net_example", period(), self.0)
    }

    pub fn snapshot(self, framework: &Framework) -> Snapshot {
        gather(&self.records(), framework).unwrap()
    }
}

/// A month of a company in which most is well and some is not.
pub fn month() -> Records {
    let mut scene = Scene::default();
    let before = -30 * DAY;
    scene.by(before, Actor::System, "network.created", Fact::Other);
    scene.by(before, Actor::System, "log.opened", Fact::LogOpened { clean: true });
    let owner = Fact::RoleGranted { admin: admin(1), role: Role::Owner };
    scene.by(before, Actor::System, "admin.role_granted", owner);
    scene.add(before, "admin.role_granted", Fact::RoleGranted { admin: admin(2), role: Role::NetworkAdmin });
    for n in 1..=9_u8 {
        let owner = if n < 7 { NodeOwner::User(user(n)) } else { NodeOwner::Tags(Vec::new()) };
        if n < 7 {
            scene.add(i64::from(n) * 60, "user.provisioned", Fact::UserProvisioned { user: user(n) });
        }
        scene.key(i64::from(n) * 60, n, 1, 2 * DAY);
        scene.join(i64::from(n) * 60 + 30, n, owner);
    }
    scene.add(DAY, "login.succeeded", Fact::LoginSucceeded);
    scene.propose(DAY, 2, 1, 6);
    scene.activate(DAY + 90, 1, 1);
    connections(&mut scene);
    Records::verified(scene.records(), checkpoint(), 0)
}

fn connections(scene: &mut Scene) {
    let mut n = 0_u16;
    for day in 2..31_i64 {
        let weekend = (day + 3) % 7 >= 5;
        for i in 0..(if weekend { 2 } else { 9 + (day * 5) % 7 }) {
            n += 1;
            scene.authorize(day * DAY + 28_800 + i * 1900, n, if day < 15 { 1 } else { 2 });
        }
        scene.deny(day * DAY + 60_000, u32::try_from(day % 4).unwrap() + 1);
        if day % 6 == 0 {
            scene.add(day * DAY + 70_000, "audit.query_executed", Fact::Other);
            scene.by(day * DAY + 70_010, Actor::Anonymous, "login.failed", Fact::LoginFailed { count: 2 });
        }
        if day == 14 {
            scene.propose(day * DAY + 80_000, 1, 2, 7);
            let change = scene.activate(day * DAY + 80_100, 1, 2);
            for (i, wait) in [0, 1, 1, 2, 4, 9].into_iter().enumerate() {
                let revoked = scene.revoke(day * DAY + 80_100, u16::try_from(i).unwrap() + 1, change);
                scene.acknowledge_both(day * DAY + 80_100 + wait, revoked);
            }
            scene.by(day * DAY + 82_000, Actor::System, "log.closed", Fact::LogClosed);
            scene.by(day * DAY + 82_120, Actor::System, "log.opened", Fact::LogOpened { clean: true });
        }
        if day == 20 {
            leaver(scene, day * DAY + 75_000);
        }
    }
    for n in 1..=4 {
        let rotated = Fact::KeyRotated { node: node(n) };
        scene.by(30 * DAY + 80_000, Actor::Node(node(n)), "key.rotated", rotated);
    }
}

fn leaver(scene: &mut Scene, start: i64) {
    let notice = scene.add(start, "user.leaver_received", Fact::LeaverReceived { user: user(6) });
    let disabled = Fact::UserDisabled { user: user(6) };
    scene.caused(start, "user.disabled", disabled, Actor::Admin(admin(1)), Some(notice));
    let removed = Fact::NodeRemoved { node: node(6) };
    scene.caused(start, "node.removed", removed, Actor::Admin(admin(1)), Some(notice));
    for n in [100, 101] {
        let revoked = scene.revoke(start, n, notice);
        scene.acknowledge(start + 2, revoked, Side::Destination);
        if n == 100 {
            scene.acknowledge(start + 3, revoked, Side::Source);
        }
    }
}

pub fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "writ.example.net/net_example".to_owned(),
        size: 1024,
        root: "q83vEjRWeJASNFZ4kBI0VniQEjRWeJASNFZ4kBI0Vng=".to_owned(),
    }
}
