//! The output of the commands about the check of a job's user by the server.

use crate::scene::Scene;

const SERVER: &str = "[[gitlab]]\nname = \"main\"\nurl = \"https://gitlab.example.org\"\naudience = \"https://gitlab.example.org\"\n";
const RULE: &str = "[[rule]]\nname = \"hpc\"\nwhen.project = \"hpc/**\"\nrun_as = \"$user_login\"\n";

#[test]
fn check_says_what_a_rule_opens_whose_user_nobody_checks() {
    let scene = Scene::new();
    let check = |text: &str| {
        scene.configure(text);
        scene.run(&["check", "--no-host"])
    };
    assert!(!check(&format!("{SERVER}{RULE}")).out.contains("chosen-name"));
    for text in
        [format!("{SERVER}user_check = \"off\"\n{RULE}"), format!("{SERVER}{RULE}user_check = \"off\"\n")]
    {
        let checked = check(&text);
        for part in [
            "chosen-name",
            "rule `hpc`",
            "service account",
            "renames themselves",
            "next user of a deleted name",
        ] {
            assert!(checked.out.contains(part), "{part}: {checked:?}");
        }
        assert_eq!(checked.code, 0, "{checked:?}");
        assert_eq!(scene.run(&["check", "--no-host", "--strict"]).code, 3);
    }
}

#[test]
fn a_test_makes_up_what_the_server_says_about_the_user() {
    let scene = Scene::new();
    let test = |more: &str, expect: &str| {
        let claims = "claims = { user_login = \"ada\", user_id = 7, project_path = \"hpc/app\" }\nlocal = { uid = 5001 }";
        scene.configure(&format!(
            "{SERVER}{RULE}[[test]]\nname = \"t\"\n{claims}\n{more}\nexpect = \"{expect}\"\n"
        ));
        scene.run(&["test"])
    };
    assert_eq!(test("", "ada").code, 0);
    for user in ["bot = true", "state = \"blocked\"", "id = 8", "username = \"ada2\""] {
        let text = format!("server_user = {{ {user} }}");
        assert_eq!(test(&text, "deny").code, 0, "{user}");
        assert_eq!(test(&text, "ada").code, 5, "{user}");
    }
    assert!(test("server_user.bot = true", "ada").out.contains("the server says that this user is a bot"));
    assert_eq!(test("server_user.robot = true", "ada").code, 3);
}

#[test]
fn explain_says_that_it_takes_the_user_for_a_person() {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).expect("the user database");
    // Root runs no jobs, and another account of every host is at hand.
    let user = user.filter(|user| !user.uid.is_root());
    let name = user.as_ref().map_or("nobody-here", |user| user.name.as_str());
    let scene = Scene::new();
    scene.configure(&format!("{SERVER}{RULE}[accounts]\nmin_uid = 100\n"));
    let claims = scene.claims(&crate::scene::claims(name, "hpc/app"));
    let explained = scene.run(&["explain", "--claims", &claims]);
    assert_eq!(explained.out.contains("is asked whether `"), explained.code == 0, "{explained:?}");
}
