//! The scene that Writ's users read about: an office, a developer at home, an engineer on call.

use std::net::Ipv4Addr;

use super::{Counter, EchoServer, Host, HttpServer, Lab, LabError, Nat, Router, Transport};

/// The staging cluster's web port.
pub const WEB_PORT: u16 = 80;
/// PostgreSQL's port.
pub const DATABASE_PORT: u16 = 5432;

/// Homes are alike: both have the LAN that their router came with.
const HOME_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 0);
const OFFICE_LAN: Ipv4Addr = Ipv4Addr::new(192, 168, 10, 0);

/// An office behind one NAT, with two servers in one LAN; a developer at home behind another; an engineer on call
/// behind a third; and the control plane's machine with a public address.
pub struct Scene {
    /// Where the control plane is to run.
    pub control: Host,
    /// The office's router.
    pub office: Router,
    /// The staging cluster, in the office.
    pub staging: Host,
    /// The production database's machine, in the office.
    pub production: Host,
    /// The router of the developer's home.
    pub home: Router,
    /// The developer's laptop.
    pub developer: Host,
    /// The router where the engineer on call is.
    pub elsewhere: Router,
    /// The on-call engineer's laptop.
    pub engineer: Host,
    /// What the staging cluster serves.
    pub staging_web: HttpServer,
    /// Stands for PostgreSQL: it sends back what it gets.
    pub database: EchoServer,
    /// Every packet for PostgreSQL's port that reached the production machine.
    pub database_packets: Counter,
    /// The lab they all stand in. Last, so that the rest goes first.
    pub lab: Lab,
}

/// Builds the scene, with the servers answering and the counter at zero.
///
/// # Errors
/// When the lab cannot run here, or a part of it fails.
pub fn scene() -> Result<Scene, LabError> {
    let lab = Lab::new("scene")?;
    let control = lab.host("control")?;
    let office = lab.router_with_lan("office", Nat::PortRestricted, OFFICE_LAN)?;
    let staging = office.host("staging-cluster")?;
    let production = office.host("production-database")?;
    let home = lab.router_with_lan("home", Nat::PortRestricted, HOME_LAN)?;
    let developer = home.host("developer")?;
    let elsewhere = lab.router_with_lan("elsewhere", Nat::PortRestricted, HOME_LAN)?;
    let engineer = elsewhere.host("engineer")?;
    let staging_web = staging.serve_http(WEB_PORT, "hello from staging-cluster")?;
    let database = production.serve_echo(DATABASE_PORT)?;
    let database_packets = production.count(Transport::Tcp, DATABASE_PORT)?;
    Ok(Scene {
        control,
        office,
        staging,
        production,
        home,
        developer,
        elsewhere,
        engineer,
        staging_web,
        database,
        database_packets,
        lab,
    })
}
