//! Each rule with records that support it, that need a look, that contradict it, and with none.

use writ_compliance::assess::{Finding, assess};
use writ_compliance::catalogue;
use writ_compliance::entry::Fact;
use writ_compliance::evidence::{Check, Snapshot};
use writ_compliance::status::Status::{self, Attention, Contradicted, NoData, Supported};
use writ_compliance::text::Lang;
use writ_compliance::wording::Wording;
use writ_schema::event::{NodeOwner, Role, Side};
use writ_schema::{Actor, PolicyVersion, Seq};

use crate::scene::{DAY, Scene, admin, at, authorization, checkpoint, key, node, user};

fn finding(control: &str, snapshot: &Snapshot) -> Finding {
    let framework = catalogue::named(control.split('.').next().unwrap()).unwrap();
    let control = framework.controls.iter().find(|c| c.id == control).unwrap();
    assess(control, snapshot)
}

fn judge(control: &str, fill: impl FnOnce(&mut Scene)) -> Status {
    let framework = catalogue::named(control.split('.').next().unwrap()).unwrap();
    let mut scene = Scene::default();
    fill(&mut scene);
    let finding = finding(control, &scene.snapshot(&framework));
    for lang in Lang::ALL {
        let words = Wording::load(lang).unwrap();
        for point in &finding.points {
            let text = words.sentence(&point.sentence);
            assert!(!text.contains(['{', '}']), "{control} leaves an argument open: {text}");
        }
    }
    finding.status
}

macro_rules! cases {
    ($($test:ident: $control:literal { $($status:ident: $fill:expr;)* })*) => {$(
        #[test]
        fn $test() {
            $(assert_eq!(judge($control, $fill), $status, "case at line {}", line!());)*
            assert_eq!(judge($control, |_| {}), NoData);
        }
    )*};
}

fn opened(clean: bool) -> Fact {
    Fact::LogOpened { clean }
}

fn person(scene: &mut Scene) {
    scene.add(10, "user.provisioned", Fact::UserProvisioned { user: user(1) });
    scene.join(20, 1, NodeOwner::User(user(1)));
}

fn leaves(scene: &mut Scene, disabled_after: i64, acknowledged_after: i64) {
    person(scene);
    let notice = scene.add(100, "user.leaver_received", Fact::LeaverReceived { user: user(1) });
    let cause = Some(notice);
    let by = || Actor::Admin(admin(1));
    let after = 100 + disabled_after;
    scene.caused(after, "user.disabled", Fact::UserDisabled { user: user(1) }, by(), cause);
    scene.caused(after, "node.removed", Fact::NodeRemoved { node: node(1) }, by(), cause);
    let revoked = scene.revoke(after, 1, notice);
    scene.acknowledge_both(100 + acknowledged_after, revoked);
    scene.add(20 * DAY, "report.generated", Fact::ReportGenerated);
}

fn withdrawn(scene: &mut Scene, seconds: i64) {
    scene.authorize(5, 1, 1);
    let change = scene.activate(10, 1, 2);
    let revoked = scene.revoke(10, 1, change);
    scene.acknowledge_both(10 + seconds, revoked);
}

fn owner(scene: &mut Scene) {
    scene.by(
        0,
        Actor::System,
        "admin.role_granted",
        Fact::RoleGranted { admin: admin(1), role: Role::Owner },
    );
}

fn raises(scene: &mut Scene, by: u8, whose: u8, role: Role) {
    let fact = Fact::RoleGranted { admin: admin(whose), role };
    scene.by(50, Actor::Admin(admin(by)), "admin.role_granted", fact);
}

cases! {
    families_of_records: "nis2.9.2.c.xi" {
        Supported: |s| { s.join(1, 1, NodeOwner::User(user(1))); s.by(2, Actor::System, "key.rotated", Fact::KeyRotated { node: node(1) }); };
        Attention: |s| { s.join(1, 1, NodeOwner::User(user(1))); };
        NoData: |s| { s.join(-DAY, 1, NodeOwner::User(user(1))); };
    }
    pauses_of_the_log: "nis2.3.2.3.k" {
        Supported: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.closed", Fact::LogClosed); s.add(65, "log.opened", opened(true)); };
        Attention: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.closed", Fact::LogClosed); s.add(DAY, "log.opened", opened(true)); };
        Attention: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.opened", opened(false)); };
        Attention: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.closed", Fact::LogClosed); };
        Contradicted: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.opened", opened(true)); };
        Contradicted: |s| { s.add(1, "log.opened", opened(true)); s.add(5, "log.closed", Fact::LogClosed); s.add(6, "log.closed", Fact::LogClosed); };
        NoData: |s| { s.add(-DAY, "log.opened", opened(true)); };
    }
    reading_the_log: "nis2.3.2.4" {
        Supported: |s| { s.add(15 * DAY, "audit.query_executed", Fact::Other); s.add(30 * DAY, "audit.query_executed", Fact::Other); };
        NoData: |s| { s.add(15 * DAY, "audit.deanonymise_executed", Fact::Other); };
    }
    refusals: "dora.10" {
        Supported: |s| { s.deny(5, 3); };
        Attention: |s| { s.deny(5, 30); s.by(9, Actor::Anonymous, "login.failed", Fact::LoginFailed { count: 21 }); };
        Supported: |s| { s.deny(5, 30); s.by(DAY + 9, Actor::Anonymous, "login.failed", Fact::LoginFailed { count: 21 }); };
    }
    authors_of_acts: "dora.rts.21.c" {
        Supported: |s| { s.propose(1, 1, 1, 0); };
        Attention: |s| { s.propose(1, 1, 1, 0); s.by(2, Actor::System, "enrol_key.revoked", Fact::EnrolKeyRevoked { key: key(1) }); };
        Contradicted: |s| { s.propose(1, 1, 1, 0); s.by(2, Actor::Anonymous, "enrol_key.revoked", Fact::EnrolKeyRevoked { key: key(1) }); };
        NoData: |s| { owner(s); };
    }
    reports_at_intervals: "nis2.2.2" {
        Supported: |s| { s.add(DAY, "report.generated", Fact::ReportGenerated); };
        Attention: |s| { s.add(-400 * DAY, "report.generated", Fact::ReportGenerated); s.add(DAY, "log.opened", opened(true)); };
    }
    changes_under_dora: "dora.9.4.e" {
        Supported: |s| { s.propose(1, 1, 1, 4); s.activate(2, 2, 1); };
        Attention: |s| { s.propose(1, 1, 1, 0); s.activate(2, 2, 1); };
        Contradicted: |s| { s.propose(1, 1, 1, 4); s.activate(2, 1, 1); };
        Contradicted: |s| { s.activate(2, 2, 1); s.propose(3, 1, 1, 4); };
        NoData: |s| { s.propose(1, 1, 1, 4); };
    }
    changes_under_nis2: "nis2.6.4" {
        Supported: |s| { s.propose(-DAY, 1, 1, 4); s.activate(2, 2, 1); };
        Attention: |s| { s.propose(1, 1, 1, 4); s.activate(2, 1, 1); };
        Contradicted: |s| { s.activate(2, 2, 1); };
    }
    decisions_by_policy: "dora.9.4.c" {
        Supported: |s| { s.activate(1, 1, 1); s.authorize(2, 1, 1); s.deny(3, 1); };
        Supported: |s| { s.deny(3, 1); };
        Attention: |s| { s.activate(1, 1, 1); s.authorize(2, 1, 1); };
        Contradicted: |s| { s.activate(1, 1, 1); s.activate(2, 1, 2); s.authorize(3, 1, 1); s.deny(4, 1); };
        Contradicted: |s| { s.authorize(3, 1, 1); s.deny(4, 1); };
    }
    devices_admitted: "dora.rts.13.d" {
        Supported: |s| { s.key(1, 1, 1, DAY); s.join(2, 1, NodeOwner::User(user(1))); };
        Supported: |s| { s.by(2, Actor::Anonymous, "node.join_refused", Fact::JoinRefused { count: 1 }); };
        Attention: |s| { s.key(1, 1, 5, DAY); s.join(2, 1, NodeOwner::User(user(1))); };
        Contradicted: |s| { s.join(2, 1, NodeOwner::User(user(1))); };
        Contradicted: |s| { s.key(1, 1, 1, 5); s.join(5, 1, NodeOwner::User(user(1))); };
        Contradicted: |s| { s.key(1, 1, 1, DAY); s.join(2, 1, NodeOwner::User(user(1))); s.join(3, 1, NodeOwner::User(user(1))); };
        Contradicted: |s| { s.key(1, 1, 1, DAY); s.add(2, "enrol_key.revoked", Fact::EnrolKeyRevoked { key: key(1) }); s.join(3, 1, NodeOwner::User(user(1))); };
    }
    time_limits: "dora.rts.13.l" {
        Supported: |s| { s.authorize(1, 1, 1); };
        Attention: |s| {
            let fact = Fact::Authorized { authorization: authorization(1), policy: PolicyVersion(1), has_rule: true, by_device_key: true, renews: None, expires_at: at(2 * DAY) };
            s.by(1, Actor::Agent, "connection.authorized", fact);
        };
    }
    withdrawals: "dora.9.4.b" {
        Supported: |s| withdrawn(s, 60);
        Attention: |s| withdrawn(s, 61);
        Contradicted: |s| withdrawn(s, DAY + 1);
        Attention: |s| { let change = s.activate(10, 1, 2); let revoked = s.revoke(10, 1, change); s.acknowledge(11, revoked, Side::Source); s.acknowledge(12, revoked, Side::Source); };
        Contradicted: |s| {
            withdrawn(s, 2);
            let fact = Fact::Authorized { authorization: authorization(2), policy: PolicyVersion(2), has_rule: true, by_device_key: true, renews: Some(authorization(1)), expires_at: at(DAY) };
            s.by(90, Actor::Agent, "connection.authorized", fact);
        };
        NoData: |s| { s.authorize(5, 1, 1); };
    }
    leavers: "nis2.11.2.2.b" {
        Supported: |s| leaves(s, 0, 3);
        Attention: |s| leaves(s, 0, 3601);
        Attention: |s| leaves(s, 3601, 3601);
        Contradicted: |s| leaves(s, 0, DAY + 1);
        Contradicted: |s| { person(s); s.add(100, "user.leaver_received", Fact::LeaverReceived { user: user(1) }); s.add(20 * DAY, "user.disabled", Fact::UserDisabled { user: user(2) }); };
        Attention: |s| { person(s); s.add(100, "user.leaver_received", Fact::LeaverReceived { user: user(1) }); };
        Contradicted: |s| {
            person(s);
            s.add(100, "user.leaver_received", Fact::LeaverReceived { user: user(1) });
            s.add(101, "user.disabled", Fact::UserDisabled { user: user(1) });
            s.add(20 * DAY, "user.disabled", Fact::UserDisabled { user: user(2) });
        };
        NoData: person;
    }
    ages_of_keys: "nis2.9.2.c" {
        Supported: |s| { s.join(0, 1, NodeOwner::User(user(1))); s.by(30 * DAY, Actor::System, "node.removed", Fact::NodeRemoved { node: node(9) }); };
        Attention: |s| { s.join(-70 * DAY, 1, NodeOwner::User(user(1))); s.by(30 * DAY, Actor::System, "node.removed", Fact::NodeRemoved { node: node(9) }); };
        Contradicted: |s| { s.join(-90 * DAY, 1, NodeOwner::User(user(1))); s.by(30 * DAY, Actor::System, "node.removed", Fact::NodeRemoved { node: node(9) }); };
        Supported: |s| { s.join(-90 * DAY, 1, NodeOwner::User(user(1))); s.by(30 * DAY, Actor::System, "key.rotated", Fact::KeyRotated { node: node(1) }); };
        NoData: |s| { s.join(0, 1, NodeOwner::User(user(1))); s.by(1, Actor::System, "node.removed", Fact::NodeRemoved { node: node(1) }); };
    }
    register_of_access: "dora.rts.20.2" {
        Supported: person;
        Supported: |s| { s.join(1, 1, NodeOwner::Tags(Vec::new())); };
        Attention: |s| { s.add(10, "user.provisioned", Fact::UserProvisioned { user: user(1) }); };
        Contradicted: |s| { person(s); s.add(30, "user.disabled", Fact::UserDisabled { user: user(1) }); };
        Contradicted: |s| { s.join(1, 1, NodeOwner::User(user(1))); };
    }
    inventory_of_nodes: "dora.8.4" {
        Supported: |s| { s.join(1, 1, NodeOwner::User(user(1))); s.by(2, Actor::System, "node.removed", Fact::NodeRemoved { node: node(1) }); };
        Contradicted: |s| { s.join(1, 1, NodeOwner::User(user(1))); s.by(2, Actor::System, "key.rotated", Fact::KeyRotated { node: node(2) }); };
    }
    privileged_roles: "nis2.11.3" {
        Supported: |s| { owner(s); raises(s, 1, 2, Role::Admin); };
        Attention: |s| { owner(s); for whose in 2..=4 { raises(s, 1, whose, Role::Owner); } };
        Contradicted: |s| { owner(s); raises(s, 1, 2, Role::Viewer); raises(s, 2, 2, Role::Owner); };
        Contradicted: |s| { owner(s); s.add(5, "admin.role_revoked", Fact::RoleRevoked { admin: admin(1) }); s.propose(9, 1, 1, 1); };
        Supported: |s| { owner(s); raises(s, 1, 1, Role::Owner); };
        NoData: |s| { s.add(5, "admin.act_denied", Fact::ActDenied { count: 1 }); };
    }
    sign_ins_of_one_factor: "nis2.11.7" {
        Attention: |s| { s.add(5, "login.succeeded", Fact::LoginSucceeded); };
        Attention: |s| { s.authorize(5, 1, 1); };
    }
}

fn integrity(witnesses: u64, change: impl FnOnce(&mut Snapshot)) -> Status {
    let mut scene = Scene::default();
    scene.authorize(1, 1, 1);
    integrity_of(scene, witnesses, change)
}

fn integrity_of(mut scene: Scene, witnesses: u64, change: impl FnOnce(&mut Snapshot)) -> Status {
    scene.add(20 * DAY, "log.opened", opened(true));
    let framework = catalogue::named("nis2").unwrap();
    let records = scene.records().verified(checkpoint(), witnesses);
    let mut snapshot = writ_compliance::evidence::gather(&records, &framework).unwrap();
    change(&mut snapshot);
    finding("nis2.3.2.5", &snapshot).status
}

#[test]
fn integrity_of_the_log() {
    assert_eq!(integrity(1, |_| {}), Supported);
    assert_eq!(integrity(0, |_| {}), Attention);
    assert_eq!(integrity(1, |s| s.scope.verification.consistency = Check::NotDone), Attention);
    assert_eq!(integrity(1, |s| s.scope.verification.consistency = Check::Failed), Contradicted);
    assert_eq!(integrity(1, |s| s.scope.verification.signature = Check::Failed), Contradicted);
    assert_eq!(integrity(1, |s| s.scope.verification.failed.push(Seq(1))), Contradicted);
    assert_eq!(integrity(1, |s| s.scope.extent.counts.retain(|kind, _| kind != "log.opened")), Contradicted);
    assert_eq!(integrity(1, |s| s.scope.verification = Default::default()), NoData);
    assert_eq!(integrity(1, |s| s.scope.extent.range = None), NoData);
}

#[test]
fn an_endpoint_that_rejects_what_it_was_told_needs_a_look() {
    let mut scene = Scene::default();
    scene.by(1, Actor::Agent, "session.frame_rejected", Fact::FrameRejected { count: 3 });
    assert_eq!(integrity_of(scene, 1, |_| {}), Attention);
}

#[test]
fn reading_too_seldom_needs_a_look() {
    let framework =
        catalogue::parse(&include_str!("../../frameworks/nis2.yaml").replace("value: 31\n", "value: 10\n"));
    let framework = framework.unwrap();
    let mut scene = Scene::default();
    scene.add(15 * DAY, "audit.query_executed", Fact::Other);
    let snapshot = scene.snapshot(&framework);
    let control = framework.controls.iter().find(|c| c.id == "nis2.3.2.4").unwrap();
    assert_eq!(assess(control, &snapshot).status, Attention);
}

#[test]
fn records_after_the_period_change_nothing() {
    let judged = |late: bool| {
        judge("dora.9.4.e", move |s| {
            s.propose(1, 1, 1, 4);
            s.activate(2, 2, 1);
            if late {
                s.activate(32 * DAY, 1, 2);
            }
        })
    };
    assert_eq!((judged(false), judged(true)), (Supported, Supported));
}
