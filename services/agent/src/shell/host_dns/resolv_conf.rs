//! `/etc/resolv.conf`: what it is, the block in it that is ours, and how it is replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::Obstacle;
use crate::shell::resolver::PORT;

/// A longer file is nobody's.
const MAX_BYTES: u64 = 64 * 1024;

/// What `/etc/resolv.conf` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ResolvConf {
    Missing,
    /// A file of its own, with this text.
    File(String),
    /// A link to what another program writes.
    Link {
        target: PathBuf,
    },
}

impl ResolvConf {
    /// Looks at it.
    pub fn read(path: &Path) -> Result<Self, Obstacle> {
        let unreadable = |error: io::Error| {
            Obstacle::new(
                format!("{} cannot be read: {error}", path.display()),
                "see what is wrong with that file",
            )
        };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Missing),
            Err(error) => Err(unreadable(error)),
            Ok(metadata) if metadata.is_symlink() => {
                // One that leads nowhere yet is told by where it leads.
                let target = fs::canonicalize(path).or_else(|_| fs::read_link(path)).map_err(unreadable)?;
                let run = target.strip_prefix("/var/run").map(|rest| Path::new("/run").join(rest));
                Ok(Self::Link { target: run.unwrap_or(target) })
            }
            Ok(metadata) if metadata.len() > MAX_BYTES => Err(unreadable(io::ErrorKind::FileTooLarge.into())),
            Ok(_) => fs::read_to_string(path).map(Self::File).map_err(unreadable),
        }
    }
}

/// The first line of an agent's block, whose link is named so that two agents leave each other's alone.
fn begin(link: &str) -> String {
    format!(
        "# writ-agent on {link}: begin. Taken out again when it stops; may be deleted when it does not run."
    )
}

fn end(link: &str) -> String {
    format!("# writ-agent on {link}: end")
}

/// The text with an agent's block at its beginning, and what else is there untouched below.
pub(super) fn with_block(text: &str, link: &str, server: IpAddr) -> String {
    let rest = without_block(text, link);
    format!("{}\nnameserver {server}\n{}\n{rest}", begin(link), end(link))
}

/// The text without an agent's block. Without an end the block is its first line and the name server that follows: what
/// somebody else has written below must not go.
pub(super) fn without_block(text: &str, link: &str) -> String {
    let (begin, end) = (begin(link), end(link));
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let bare = line.trim_end();
        if bare == begin {
            if let Some(server) = lines.peek()
                && loopback_server(server)
            {
                lines.next();
            }
        } else if bare != end {
            kept.push_str(line);
        }
    }
    kept
}

fn loopback_server(line: &str) -> bool {
    name_server(line)
        .and_then(|server| server.parse::<IpAddr>().ok())
        .is_some_and(|server| server.is_loopback())
}

/// The name servers of a file, agents' own left out.
pub(super) fn name_servers(text: &str) -> Vec<String> {
    let mut is_ours = false;
    let mut servers = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# writ-agent on ") {
            is_ours = rest.contains(": begin");
        } else if let Some(server) = name_server(line) {
            if !is_ours {
                servers.push(server.to_owned());
            }
            is_ours = false;
        }
    }
    servers
}

fn name_server(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    (words.next() == Some("nameserver")).then(|| words.next())?
}

/// Whom to ask for what is not of the network. Without any the C library would ask this host itself (resolv.conf(5)).
pub(super) fn upstreams(text: &str) -> Vec<SocketAddr> {
    let servers = name_servers(text);
    if servers.is_empty() {
        return vec![SocketAddr::new([127, 0, 0, 1].into(), PORT)];
    }
    servers.iter().filter_map(|server| upstream(server)).collect()
}

/// An address, or a link-local one with its interface (`fe80::1%eth0`).
fn upstream(server: &str) -> Option<SocketAddr> {
    let Some((address, interface)) = server.split_once('%') else {
        return Some(SocketAddr::new(server.parse().ok()?, PORT));
    };
    let scope = interface.parse().or_else(|_| nix::net::if_::if_nametoindex(interface)).ok()?;
    Some(SocketAddrV6::new(address.parse().ok()?, PORT, 0, scope).into())
}

/// Puts a text in the place of another. As a whole where the folder allows it; where it does not, or where the file is
/// mounted by itself (containers, systemd's `ReadWritePaths`), in place.
///
/// # Errors
/// When it cannot be written, or somebody else has written it meanwhile: nothing is changed then.
pub(super) fn replace(path: &Path, before: &str, after: &str) -> io::Result<()> {
    if fs::read_to_string(path)? != before {
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, "somebody else is changing it"));
    }
    let beside = path.with_file_name(".resolv.conf.writ-agent");
    let replaced = write_beside(path, &beside, after).and_then(|()| fs::rename(&beside, path));
    match replaced {
        Ok(()) => path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all()),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            tracing::debug!("{} is written in place: {error}", path.display());
            write_in_place(path, after)
        }
    }
}

fn write_beside(path: &Path, beside: &Path, text: &str) -> io::Result<()> {
    let like = fs::metadata(path)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(beside)?;
    file.write_all(text.as_bytes())?;
    // Of whoever it was, so that whoever could change it still can.
    fchown(&file, Some(like.uid()), Some(like.gid()))?;
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}

/// At no moment is the file shorter than the shorter of both, and a text this short goes in one piece.
fn write_in_place(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINK: &str = "writ0";
    const THEIRS: &str =
        "# by hand\nsearch example.org\nnameserver 192.0.2.1\nnameserver 2001:db8::1\noptions ndots:2\n";

    fn server() -> IpAddr {
        [127, 64, 0, 1].into()
    }

    #[test]
    fn the_block_stands_first_and_taking_it_out_gives_what_was_there_and_what_came_since() {
        let with = with_block(THEIRS, LINK, server());
        assert!(with.ends_with(THEIRS) && with.contains("\nnameserver 127.64.0.1\n"), "{with}");
        assert_eq!(with_block(&with, LINK, server()), with);
        assert_eq!(without_block(&with, LINK), THEIRS);
        let changed = with.replace("192.0.2.1", "192.0.2.9") + "nameserver 192.0.2.2\n";
        let theirs = THEIRS.replace("192.0.2.1", "192.0.2.9") + "nameserver 192.0.2.2\n";
        assert_eq!(without_block(&changed, LINK), theirs);
        // Another agent's stays.
        let both = with_block(&with, "writ1", [127, 64, 0, 7].into());
        assert_eq!(without_block(&both, LINK), with_block(THEIRS, "writ1", [127, 64, 0, 7].into()));
        assert_eq!(name_servers(&both), ["192.0.2.1", "2001:db8::1"]);
        // Half of a block takes nothing along that is not ours.
        let half = format!("{}\nnameserver 192.0.2.1\n", begin(LINK));
        assert_eq!(without_block(&half, LINK), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn upstreams_are_the_servers_that_are_not_ours() {
        let addresses = |text: &str| -> Vec<_> { upstreams(text).iter().map(ToString::to_string).collect() };
        assert_eq!(addresses(&with_block(THEIRS, LINK, server())), ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(addresses("options edns0\n"), ["127.0.0.1:53"]);
        assert_eq!(
            addresses("nameserver fe80::1%lo\nnameserver nobody\n#nameserver 192.0.2.1\n"),
            ["[fe80::1%1]:53"]
        );
    }

    #[test]
    fn a_file_is_replaced_as_a_whole_and_keeps_its_mode_unless_it_has_changed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        fs::write(&path, THEIRS).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        replace(&path, THEIRS, "nameserver 192.0.2.3\n").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap().as_str(), metadata.mode() & 0o7777),
            ("nameserver 192.0.2.3\n", 0o664)
        );
        assert_ne!(metadata.ino(), inode);
        assert!(replace(&path, THEIRS, "").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "nameserver 192.0.2.3\n");

        // Where nothing can be put beside it: a folder stands there.
        fs::create_dir(folder.path().join(".resolv.conf.writ-agent")).unwrap();
        for text in ["", THEIRS, "nameserver 192.0.2.4\n"] {
            replace(&path, &fs::read_to_string(&path).unwrap(), text).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), metadata.ino());
    }

    #[test]
    fn a_link_is_told_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        assert_eq!(ResolvConf::read(&path), Ok(ResolvConf::Missing));
        std::os::unix::fs::symlink("/var/run/NetworkManager/resolv.conf", &path).unwrap();
        let target = "/run/NetworkManager/resolv.conf".into();
        assert_eq!(ResolvConf::read(&path), Ok(ResolvConf::Link { target }));
    }

    proptest! {
        #[test]
        fn whatever_is_in_the_file_comes_back(
            lines in proptest::collection::vec("(#.{0,20}|nameserver 127\\.0\\.0\\.1|search [a-z]{1,9}|# writ-agent on writ1: end|)\r?\n?", 0..9)
        ) {
            let text = lines.concat();
            prop_assert_eq!(without_block(&with_block(&text, LINK, server()), LINK), text);
        }
    }
}
