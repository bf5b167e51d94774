//! The account in a machine: lines for its user database, and which of the host's ids are which of the machine's.

use crate::ids::Range;
use nunbird_order::Machine;
use nunbird_parts::MachineAccount;

/// The name that a group gets which the tree does not know.
const GROUP: &str = "nunbird-";

/// A user namespace's map for the tree: all of the machine's ids.
pub(crate) fn of_tree(range: &Range) -> String {
    format!("0 {} {}\n", range.first, range.size)
}

/// The maps for what of the host's files is in the machine: the account's own ids and no other. A file of anybody else has no owner there,
/// whom root of the machine could act as, and none can be made.
pub(crate) fn of_binds(range: &Range, machine: &Machine, account: &MachineAccount) -> (String, String) {
    let inside = |id: u32| if machine.root { 0 } else { id };
    let ids = &account.ids;
    let line = |id: u32, inside: u32| format!("{id} {} 1\n", range.first.saturating_add(inside));
    let uids = line(ids.uid, inside(ids.uid));
    let mut gids = line(ids.gid, inside(ids.gid));
    for gid in others(account) {
        gids.push_str(&line(gid, gid));
    }
    (uids, gids)
}

/// Its supplementary groups, each once. Root's is no group of files of an account.
pub(crate) fn others(account: &MachineAccount) -> Vec<u32> {
    let mut all: Vec<u32> =
        account.groups.iter().copied().filter(|gid| *gid != account.ids.gid && *gid != 0).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn field(line: &str, column: usize) -> &str {
    line.split(':').nth(column).unwrap_or_default()
}

fn number(line: &str, column: usize) -> Option<u32> {
    field(line, column).parse().ok()
}

/// `passwd` of the tree with the account. What has its name or its number there goes.
pub(crate) fn passwd(tree: &str, account: &MachineAccount, shell: &str) -> String {
    let ids = &account.ids;
    let mut text = String::new();
    for line in tree.lines().filter(|line| field(line, 0) != ids.name && number(line, 2) != Some(ids.uid)) {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&format!("{}:x:{}:{}::{}:{shell}\n", ids.name, ids.uid, ids.gid, account.home.display()));
    text
}

/// `shadow` of the tree with the account, which has no password.
pub(crate) fn shadow(tree: &str, account: &MachineAccount) -> String {
    let name = &account.ids.name;
    let mut text: String =
        tree.lines().filter(|line| field(line, 0) != *name).map(|line| format!("{line}\n")).collect();
    text.push_str(&format!("{name}:*:20000:0:99999:7:::\n"));
    text
}

/// `group` of the tree with the account's groups: those that the tree has keep their names.
pub(crate) fn group(tree: &str, account: &MachineAccount) -> String {
    let ids = &account.ids;
    let others = others(account);
    let mut text = String::new();
    // Another group of the account's name would hide its own.
    let kept = |line: &&str| field(line, 0) != ids.name || number(line, 2) == Some(ids.gid);
    for line in tree.lines().filter(kept) {
        text.push_str(line);
        if number(line, 2).is_some_and(|gid| others.contains(&gid)) {
            if !line.ends_with(':') {
                text.push(',');
            }
            text.push_str(&ids.name);
        }
        text.push('\n');
    }
    let has = |gid: u32| tree.lines().filter(kept).any(|line| number(line, 2) == Some(gid));
    if !has(ids.gid) {
        text.push_str(&format!("{}:x:{}:\n", ids.name, ids.gid));
    }
    for gid in others.iter().filter(|gid| !has(**gid)) {
        text.push_str(&format!("{GROUP}{gid}:x:{gid}:{}\n", ids.name));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{group, passwd, shadow};
    use nunbird_parts::{AccountIds, MachineAccount};

    fn account() -> MachineAccount {
        let ids = AccountIds { name: "alice".to_owned(), uid: 4101, gid: 4101 };
        MachineAccount { ids, groups: vec![4101, 27, 5000, 27, 0], home: "/home/alice".into() }
    }

    #[test]
    fn the_account_takes_the_place_of_what_has_its_name_or_number_in_the_tree() {
        let tree = "root:x:0:0::/root:/bin/sh\nalice:x:1:1::/:/bin/sh\nbob:x:4101:1::/:/bin/sh\nsys:x:3:3::/dev:/x\n";
        assert_eq!(
            passwd(tree, &account(), "/bin/bash"),
            "root:x:0:0::/root:/bin/sh\nsys:x:3:3::/dev:/x\nalice:x:4101:4101::/home/alice:/bin/bash\n"
        );
        assert_eq!(
            shadow("root:*:1::::::\nalice:secret:1::::::\n", &account()),
            "root:*:1::::::\nalice:*:20000:0:99999:7:::\n"
        );
    }

    #[test]
    fn the_groups_of_the_account_keep_the_names_of_the_tree_and_root_is_none_of_them() {
        let tree = "root:x:0:\nsudo:x:27:\nadm:x:5000:x\nalice:x:9:\n";
        assert_eq!(
            group(tree, &account()),
            "root:x:0:\nsudo:x:27:alice\nadm:x:5000:x,alice\nalice:x:4101:\n"
        );
        assert_eq!(
            group("root:x:0:\n", &account()),
            "root:x:0:\nalice:x:4101:\nnunbird-27:x:27:alice\nnunbird-5000:x:5000:alice\n"
        );
    }
}
