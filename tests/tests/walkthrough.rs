//! The admin guide's walkthrough is correct: every command in it is run, and prints the output
//! shown.

use nunbird_tests::needs;
use nunbird_tests::world::{Account, Privilege, World};

const GUIDE: &str = include_str!("../../docs/admin-guide.md");
/// The server in the guide; the private system's own has another URL.
const SERVER: &str = "https://gitlab.example.org";

/// A fenced block of the guide: its language, its text, and the last path that was named before it.
struct Block<'g> {
    language: &'g str,
    text: &'g str,
    path: &'g str,
}

fn blocks() -> Vec<Block<'static>> {
    let section = GUIDE.split("## Walkthrough").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap_or("");
    let mut path = "";
    let mut blocks = Vec::new();
    for (index, part) in section.split("\n```").enumerate() {
        if index % 2 == 0 {
            let paths = part.split('`').skip(1).step_by(2).filter(|text| text.starts_with('/'));
            path = paths.last().unwrap_or(path);
        } else {
            let (language, text) = part.split_once('\n').expect("a language");
            blocks.push(Block { language, text, path });
        }
    }
    blocks
}

/// Runs a command of the guide as root, or as the account that it names, and returns what a
/// terminal would show.
fn run(world: &mut World, command: &str) -> String {
    if let Some(name) = command.strip_prefix("useradd --create-home ") {
        world.add_account(Account::new(name, 4190));
        return String::new();
    }
    let (account, command) = match command.strip_prefix("runuser -u nunbird -- ") {
        Some(command) => ("nunbird", command),
        None => ("root", command),
    };
    let command = command.strip_prefix("/opt/nunbird/bin/").unwrap_or(command);
    let done = world.shell(account, &format!("/opt/nunbird/bin/{command} 2>&1"));
    done.stdout.replace(&world.issuer().url(), SERVER)
}

#[needs(root)]
fn the_walk_through_of_the_admin_guide_prints_what_it_shows() {
    let mut world = World::new(Privilege::Setuid);
    world.add_account(Account::new("gitlab-runner", 4191));
    let mut commands = 0;
    for block in blocks() {
        match block.language {
            "toml" | "json" => {
                let text = block
                    .text
                    .replace(&format!("url = \"{SERVER}"), &format!("url = \"{}", world.issuer().url()));
                // The machine shows the host's /root; what lies there is written elsewhere.
                world.write_file(&block.path.replace("/root/", "/tmp/"), text, "root", 0o644);
            }
            "console" => {
                let mut shown = String::new();
                let text = format!("{}\n", block.text);
                for command in text.lines().filter_map(|line| line.strip_prefix("# ")) {
                    commands += 1;
                    let printed = run(&mut world, &command.replace("/root/", "/tmp/"));
                    shown.push_str(&format!("# {command}\n{printed}"));
                }
                assert_eq!(shown, text, "the guide shows something else than is printed:\n{shown}");
            }
            other => panic!("a block of `{other}`"),
        }
    }
    assert_eq!(commands, 7);
}
