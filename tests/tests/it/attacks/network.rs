//! A real control plane that is put back to an older copy of its data, over the real network.

use std::fs;
use std::path::Path;

use super::assert_seen;
use crate::lab_test;
use crate::system::Site;

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn put_back(older: &Path, place: &Path) {
    fs::remove_dir_all(place).unwrap();
    copy_folder(older, place);
}

lab_test! {
    fn a_server_that_was_put_back_is_found_by_what_was_verified_there_before() {
        let mut site = Site::on_loopback("attack-rollback");
        let (data, older) = (site.control.data().to_owned(), site.lab.directory().join("older"));
        site.control.stop().unwrap();
        copy_folder(&data, &older);
        site.control.start().unwrap();
        site.operator.add_user("mallory@example.com", "Mallory").unwrap();
        site.operator.run(&["log", "verify"]).unwrap();
        site.control.stop().unwrap();

        put_back(&older.join("log"), &data.join("log"));
        let not_started = format!("{:#}", site.control.start().unwrap_err());
        put_back(&older, &data);
        site.control.start().unwrap();
        let verdict = site.operator.try_run(&["log", "verify"]).unwrap();
        assert!(!verdict.status.success(), "the older copy is sound by itself, and yet not what it was");
        let seen = not_started + &String::from_utf8_lossy(&verdict.stdout);
        assert_seen("Roll back to an older copy", &seen);
    }
}
