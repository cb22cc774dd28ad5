//! Days on which the disk, the database or the clock lets the server down: probes, metrics, log and `doctor`
//! say so, and nothing that was answered is lost. (An expired certificate and a settings file that is gone
//! are in `doctor`.)

use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::doctor::doctor;
use crate::harness::{Answer, PASSWORD, Pair, Server, fresh_folder, get};

const NOT_READY: &str = r#"{"status":"not ready","because":"database"}"#;

fn database(server: &Server) -> PathBuf {
    server.data.join("passmint.db")
}

/// Waits until it is so.
#[track_caller]
fn wait_until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn ready(server: &Server) -> Answer {
    server.send(get("/readyz"))
}

/// Everything that looks after the database says that it cannot be used: probe, metric, log, doctor.
#[track_caller]
fn everything_tells(server: &Server, why: &str) {
    wait_until("not ready", || ready(server).status == 503);
    ready(server).is_json(503, NOT_READY);
    wait_until("the metric", || {
        let metrics = server.metrics();
        metrics.contains("\npassmint_store_available 0\n")
    });
    wait_until("the log", || server.log().contains("not ready: the database cannot be"));
    assert!(server.log().contains(why), "{why}: {}", server.log());
    let (code, said) = doctor(server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WRONG   server: runs, but cannot read or write its database"), "{said}");
    assert_eq!(server.send(get("/healthz")).status, 200, "it lives");
}

#[track_caller]
fn everything_is_well_again(server: &Server) {
    wait_until("ready", || ready(server).status == 200);
    wait_until("the log", || server.log().contains("can be read and written again"));
    let (code, said) = doctor(server);
    assert_eq!(code, Some(0), "{said}");
}

/// The binary on that data, which is not to run on: it is ended after 20 s.
fn briefly(data: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["20", crate::harness::PASSMINT, "--data"]).arg(data).stdin(Stdio::null());
    command.env("PASSMINT_SERVER__LISTEN", "127.0.0.1:0");
    command.env("PASSMINT_SERVER__ADMIN_LISTEN", "127.0.0.1:0");
    command
}

/// Has a system call of the server fail, or wait, on a file; until it is killed.
fn inject(server: &Server, file: &Path, fault: &str) -> Child {
    let trace = server.data.join("strace.txt");
    let child = Command::new("strace")
        .args(["-f", "-q", "-P"])
        .arg(file)
        .args(["-e", "trace=pwrite64,fdatasync", "-e", &format!("inject={fault}"), "-o"])
        .arg(&trace)
        .args(["-p", &server.pid().to_string()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the tracer sees the heartbeat", || {
        std::fs::read_to_string(&trace)
            .is_ok_and(|seen| seen.contains("INJECTED") || seen.contains("DELAYED"))
    });
    child
}

fn heal(mut tracer: Child) {
    Command::new("kill").args(["-INT", &tracer.id().to_string()]).status().unwrap();
    tracer.wait().unwrap();
}

#[test]
fn a_full_disk() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let full = inject(&server, &server.data.join("passmint.db-wal"), "pwrite64:error=ENOSPC");
    everything_tells(&server, "database or disk is full");
    let refused = server.refresh(&pair.refresh_token);
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    assert_eq!(server.try_login("asha", PASSWORD).status, 503);
    assert_eq!(server.me(&pair.token).status, 200, "verification goes on");
    heal(full);
    everything_is_well_again(&server);
    let next = Pair::of(&server.refresh(&pair.refresh_token));
    assert_eq!(server.me(&next.token).status, 200);
    server.must(&["audit", "verify"]);
}

#[test]
fn a_stuck_disk() {
    let server = Server::start();
    server.add_user("asha");
    let pair = server.login("asha");
    let wal = server.data.join("passmint.db-wal");
    let stuck = inject(&server, &wal, "fdatasync:delay_enter=8000000");
    wait_until("not ready", || ready(&server).status == 503);
    assert_eq!(server.me(&pair.token).status, 200, "verification goes on");
    wait_until("the log", || server.log().contains("the disk is stuck"));
    heal(stuck);
    everything_is_well_again(&server);
    assert_eq!(server.refresh(&pair.refresh_token).status, 200);
}

#[test]
fn damaged_pages() {
    let mut server = Server::start();
    for number in 0..50 {
        server.add_user(&format!("user-{number}"));
    }
    server.add_user("asha");
    let pair = server.login("asha");
    // Everything is in the file, and in no cache.
    server.stop();
    server.start_again();
    let file = std::fs::File::options().write(true).open(database(&server)).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let mut statuses = Vec::new();
    wait_until("a read meets the damage", || server.try_login("user-7", PASSWORD).status != 200);
    for name in ["asha", "user-1", "nobody"] {
        statuses.push(server.try_login(name, PASSWORD).status);
    }
    assert_eq!(statuses, [503, 503, 503], "{}", server.log());
    everything_tells(&server, "the database is damaged");
    let verified = server.send(get("/forward-auth").jwt(&pair.token));
    assert_eq!(verified.status, 200, "verification goes on");
    let (_, said) = doctor(&server);
    assert!(said.contains("restore a backup"), "{said}");
}

#[test]
fn a_file_that_is_gone_and_one_in_its_place() {
    let mut server = Server::start();
    server.add_user("asha");
    let path = database(&server);
    let aside = server.data.join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    everything_tells(&server, "was removed or replaced");
    assert!(doctor(&server).1.contains("WRONG   database: "), "{}", doctor(&server).1);
    std::fs::copy(&aside, &path).unwrap();
    wait_until("the copy is not taken for it", || ready(&server).status == 503);
    std::fs::rename(&aside, &path).unwrap();
    everything_is_well_again(&server);
    server.login("asha");

    // Gone, and the server is started anew: not with nobody in it.
    std::fs::rename(&path, &aside).unwrap();
    server.stop();
    for emptied in [false, true] {
        if emptied {
            std::fs::write(&path, "").unwrap();
        }
        let commands = [&["serve"][..], &["user", "add", "bela"], &["db", "migrate"], &["demo"]];
        for command in commands {
            let output = briefly(&server.data).args(command).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
            let what = if emptied { "is empty" } else { "is gone" };
            let told = errors.contains(what) && errors.contains("serve --init");
            assert!(told || errors.contains("there is no database"), "{command:?}: {errors}");
        }
        let (code, said) = doctor(&server);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("tells of a database"), "{said}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0, "nothing was made");
    // Whoever insists still loses no journal.
    let journal = std::fs::read(server.data.join("passmint.db-wal")).unwrap();
    assert!(!journal.is_empty());
    let mut insisting = briefly(&server.data).args(["serve", "--init"]).spawn().unwrap();
    let kept = server.data.join("passmint.db-wal.old");
    wait_until("it begins", || kept.exists() && std::fs::metadata(&path).unwrap().len() > 0);
    Command::new("kill").arg(insisting.id().to_string()).status().unwrap();
    insisting.wait().unwrap();
    assert!(std::fs::read(&kept).unwrap() == journal);
    std::fs::remove_file(server.data.join("passmint.db-wal")).ok();
    std::fs::rename(&kept, server.data.join("passmint.db-wal")).unwrap();
    std::fs::remove_file(server.data.join("passmint.db-shm")).ok();
    std::fs::rename(&aside, &path).unwrap();
    server.start_again();
    server.login("asha");
}

#[test]
fn a_folder_that_is_not_there_and_a_file_of_another_program() {
    let folder = fresh_folder("parent");
    let run = |arguments: &[&str], data: &Path| {
        let output = briefly(data).args(arguments).current_dir(&folder).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let missing = folder.join("pasmint");
    for command in [&["serve"][..], &["user", "add", "asha"]] {
        let (code, errors) = run(command, &missing);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("there is no folder") && errors.contains("--init"), "{errors}");
    }
    assert!(!missing.exists(), "nothing was made");
    let other = folder.join("other");
    std::fs::create_dir(&other).unwrap();
    let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.execute('CREATE TABLE notes (x)');c.commit()";
    let path = other.join("passmint.db");
    let made = Command::new("python3").args(["-c", script]).arg(&path).status().unwrap();
    assert!(made.success());
    let before = std::fs::read(&path).unwrap();
    for command in [&["serve"][..], &["serve", "--init"], &["user", "list"], &["doctor"]] {
        let (code, errors) = run(command, &other);
        assert_eq!(code, Some(1), "{command:?}: {errors}");
        assert!(command[0] == "doctor" || errors.contains("of another program"), "{errors}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before, "it was changed");
}

#[test]
fn the_log_says_what_the_server_runs_on() {
    let server = Server::start();
    let log = server.log();
    let ready = log.lines().find(|line| line.contains(r#""message":"ready""#)).unwrap();
    assert!(ready.contains(r#""users":"0""#) && ready.contains("passmint.db"), "{ready}");
    assert!(ready.contains(r#""settings":"none""#), "{ready}");
    assert!(log.contains("made a master key"), "a first start is told: {log}");
}

#[test]
fn only_serve_and_migrate_change_an_older_schema_and_a_copy_is_made_first() {
    let mut server = Server::start();
    server.add_user("asha");
    server.stop();
    let path = database(&server);
    let sql = |statement: &str| {
        let script = "import sqlite3,sys;c=sqlite3.connect(sys.argv[1]);c.executescript(sys.argv[2]);\
                      print(c.execute('PRAGMA user_version').fetchone()[0])";
        let output =
            Command::new("python3").args(["-c", script]).arg(&path).arg(statement).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().to_owned()
    };
    let newest = sql("");
    // As the version before wrote it.
    assert_eq!(sql("PRAGMA user_version = 6; PRAGMA application_id = 0;"), "6");
    for command in
        [&["user", "list"][..], &["key", "list"], &["audit", "verify"], &["user", "add", "bela"]]
    {
        let output = server.run(command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {errors}");
        assert!(errors.contains("passmint db migrate"), "{errors}");
    }
    assert_eq!(sql(""), "6", "no command migrates");
    server.start_again();
    assert_ne!(newest, "6");
    assert!(server.log().contains("the database's schema is brought up to date"));
    let copy = server.data.join("passmint.db.schema-6");
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    server.login("asha");
    server.stop();
    assert_eq!(sql(""), newest);
    // The copy is whole: the older program would run on it.
    std::fs::copy(&copy, &path).unwrap();
    assert_eq!(sql(""), "6");
    server.must(&["db", "migrate"]);
    assert!(server.must(&["user", "list"]).contains("asha"));
}

#[test]
fn an_old_copy_put_back_gives_nobodys_id_to_another() {
    let mut server = Server::start();
    server.add_user("asha");
    server.stop();
    let copy = server.data.join("copy.db");
    std::fs::copy(database(&server), &copy).unwrap();
    server.start_again();
    let victor = server.add_user_with("victor", &["--role", "admin"], PASSWORD);
    let pair = server.login("victor");
    server.stop();
    std::fs::copy(&copy, database(&server)).unwrap();
    server.start_again();
    assert!(server.log().contains("the database is an old copy"), "{}", server.log());
    let wendy = server.add_user("wendy");
    assert!(wendy > victor, "{wendy} after {victor}");
    server.me(&pair.token).is_unauthorized("Token has been revoked.");
    // From here on the database knows, and the ids go on one by one.
    server.stop();
    let before = server.log().matches("the database is an old copy").count();
    server.start_again();
    assert_eq!(server.add_user("asif"), wendy + 1);
    assert_eq!(server.log().matches("the database is an old copy").count(), before);
}

/// The file that keeps the highest id of a user, of the only database in a folder.
fn mark(folder: &Path) -> PathBuf {
    let named =
        |path: &PathBuf| path.is_file() && path.display().to_string().contains("highest-user-id.");
    let mut marks =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(named);
    let (mark, None) = (marks.next().unwrap(), marks.next()) else { panic!("several marks") };
    mark
}

#[test]
fn a_mark_of_the_highest_user_that_cannot_be_read_is_named_and_a_lost_one_is_made_anew() {
    let mut server = Server::start();
    server.add_user("asha");
    server.stop();
    let mark = mark(&server.data);
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "1\n");
    for wrong in ["", "x", "-1", "9223372036854775807"] {
        std::fs::write(&mark, wrong).unwrap();
        let output = briefly(&server.data).arg("serve").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("holds no number up to 2^53"), "{error}");
        assert!(doctor(&server).1.contains("WRONG   highest user id: "), "{wrong}");
    }
    std::fs::remove_file(&mark).unwrap();
    // Somebody else's file in the way of another database's concerns this one not.
    std::fs::create_dir(server.data.join("highest-user-id.new")).unwrap();
    server.start_again();
    assert_eq!(std::fs::read_to_string(&mark).unwrap(), "1\n");
    assert_eq!(server.add_user("wendy"), 2);
}

/// A folder of master keys may serve several databases.
#[test]
fn databases_whose_master_keys_share_a_folder_do_not_share_ids() {
    let keys = fresh_folder("keys-of-two");
    let server = |name: &str, master_key: &str| {
        let data = fresh_folder(name);
        // The harness looks for it beside the data.
        let key = keys.join(name).with_extension("key");
        for file in [key.clone(), data.join("master.key")] {
            std::fs::write(&file, master_key).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Server::start_on(&data, &[("MASTER_KEY__FILE", key.to_str().unwrap())])
    };
    let first = server("first", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    let second = server("second", "MTEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=");
    assert_eq!((first.add_user("a"), first.add_user("b")), (1, 2));
    assert_eq!((second.add_user("a"), first.add_user("c")), (1, 3));
}

/// A clock that is ahead of the machine's by what a file says; time that passes is the machine's.
struct Clock(PathBuf);

impl Clock {
    fn new() -> Self {
        let clock = Self(fresh_folder("clock").join("ahead"));
        clock.set("+0");
        clock
    }

    /// As in `"+2d"`: by so much ahead.
    fn set(&self, ahead: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, ahead).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    /// A server that goes by it, and its commands, too.
    fn server(&self) -> Server {
        let library =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("libfaketimeMT/libfaketimeMT.so.1");
        assert!(library.exists(), "run scripts/test: it installs libfaketime");
        Server::start_with(&[
            ("LD_PRELOAD", library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.0.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ])
    }
}

#[test]
fn a_clock_that_is_set_and_set_back() {
    let clock = Clock::new();
    let mut server = clock.server();
    let metric = |server: &Server, line: &str| {
        let metrics = server.metrics();
        metrics.contains(&format!("\n{line}\n"))
    };
    for name in ["asha", "noor"] {
        server.add_user(name);
    }
    let (alive, ended) = (server.login("asha"), server.login("noor"));
    server.must(&["user", "disable", "noor"]);
    let (code, said) = doctor(&server);
    assert_eq!(code, Some(0), "{said}");

    clock.set("+100d");
    wait_until("the log", || server.log().contains("the clock was set: nothing is ended"));
    wait_until("the metrics", || metric(&server, "passmint_clock_jumps_total 1"));
    assert!(metric(&server, "passmint_clock_trusted 0"));
    let (code, said) = doctor(&server);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WRONG   server: the clock was set by more than a minute"), "{said}");
    // It serves on, by the clock as it stands.
    assert_eq!(ready(&server).status, 200);
    server.me(&alive.token).is_unauthorized("Signature has expired.");
    assert_eq!(server.me(&server.login("asha").token).status, 200);
    server.must(&["session", "list", "asha"]);
    // Whoever starts it again does not make the wrong time the right one.
    for _ in 0..2 {
        server.kill();
        server.start_again();
        assert!(metric(&server, "passmint_clock_trusted 0"));
        assert!(server.log().contains("or still wrong"), "{}", server.log());
    }

    clock.set("+0");
    wait_until("the log", || server.log().contains("the clock is where it was before"));
    wait_until("the metric", || metric(&server, "passmint_clock_trusted 1"));
    let (code, said) = doctor(&server);
    assert!(!said.contains("the clock was set"), "{code:?} {said}");
    // Nobody lost a session, and what was ended stays so.
    assert_eq!(server.me(&alive.token).status, 200);
    Pair::of(&server.refresh(&alive.refresh_token));
    server.me(&ended.token).is_unauthorized("Token has been revoked.");

    // A clock that is behind when the server starts is seen from the first moment.
    server.stop();
    clock.set("-2h");
    server.start_again();
    assert!(metric(&server, "passmint_clock_trusted 0"));
    assert!(server.log().contains("the clock is behind what it was when a server last ran"));
    server.stop();
    server.start_again();
    assert!(metric(&server, "passmint_clock_trusted 0"), "it is behind still");
}
