"""Cameras for tests: an RTSP server to be run with the system's Python (Debian's python3-gi).

A camera shows picture n at `start + n / rate` whether or not anybody is watching, as a real one
does: a client that connects gets what is shown from then on. Access units come from files:

```
rate as a float64, then for each unit: size uint32, keyframe uint8, H.264 with start codes
```

Standard input takes one command a line, standard output answers each with a line:

```
down NAME       refuse and disconnect clients of a camera
up NAME         accept them again
stall NAME      stay connected and send nothing
garbage NAME N  spoil the next N access units
go NAME         send again from the next keyframe on, what was missed is lost
use NAME FILE   show another file from its start (another resolution, for example)
```
"""

import os
import pathlib
import struct
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

LAUNCH = (
    "( appsrc name=units is-live=true format=time block=false max-bytes=4000000 "
    "caps=video/x-h264,stream-format=byte-stream,alignment=au "
    "! h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)


def read_units(path):
    """Rate, and `(is_keyframe, bytes)` of every access unit."""
    with pathlib.Path(path).open("rb") as file:
        (rate,) = struct.unpack("<d", file.read(8))
        units = []
        while head := file.read(5):
            size, is_keyframe = struct.unpack("<IB", head)
            units.append((bool(is_keyframe), file.read(size)))
    return rate, units


class Camera(GstRtspServer.RTSPMediaFactory):
    """One mount; every client has a pipeline of its own."""

    def __init__(self, path, start):
        super().__init__()
        self.start = start
        self.use(path)
        self.is_up, self.is_stalled, self.num_spoiled = True, False, 0
        self.medias = []
        self.set_launch(LAUNCH)
        self.set_shared(False)
        self.connect("media-configure", self.on_media)

    def use(self, path):
        self.rate, self.units = read_units(path)
        self.start = time.time() if self.start is None or hasattr(self, "is_up") else self.start

    def on_media(self, _factory, media):
        if not self.is_up:
            return
        source = media.get_element().get_child_by_name("units")
        self.medias.append(media)
        gone = threading.Event()
        media.connect("unprepared", lambda _media: gone.set())
        threading.Thread(target=self.push, args=(source, media, gone), daemon=True).start()

    def push(self, source, media, gone):
        began = time.time()
        number = int((began - self.start) * self.rate) + 1
        units, missed = self.units, False
        while not gone.is_set() and self.is_up:
            due = self.start + number / self.rate
            time.sleep(max(0.0, due - time.time()))
            if units is not self.units:
                units, number = self.units, 0
            is_keyframe, data = units[number % len(units)]
            number += 1
            if self.is_stalled or (missed and not is_keyframe):
                missed = True
                continue
            missed = False
            if self.num_spoiled > 0:
                self.num_spoiled -= 1
                data = data[: len(data) // 3] + bytes(b ^ 0x5A for b in data[len(data) // 3 :])
            buffer = Gst.Buffer.new_wrapped(data)
            buffer.pts = buffer.dts = int((due - began) * Gst.SECOND) + Gst.SECOND
            buffer.duration = int(Gst.SECOND / self.rate)
            if not is_keyframe:
                buffer.set_flags(Gst.BufferFlags.DELTA_UNIT)
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                break
        if media in self.medias:
            self.medias.remove(media)


class Server:
    """Cameras `NAME=FILE` on one port."""

    def __init__(self, port, cameras):
        Gst.init(None)
        self.server = GstRtspServer.RTSPServer()
        self.server.set_address("127.0.0.1")
        self.server.set_service(str(port))
        # Cameras are not asked one after another.
        self.server.get_thread_pool().set_max_threads(len(cameras) + 2)
        self.cameras = {}
        # A camera that is started again shows what it would show had it not been off.
        start = float(os.environ.get("CAMERAS_SINCE", time.time()))
        mounts = self.server.get_mount_points()
        for name, path in cameras.items():
            self.cameras[name] = Camera(path, start)
            mounts.add_factory(f"/{name}", self.cameras[name])
        self.mounts = mounts
        self.server.attach(None)

    def command(self, line):
        verb, name, *rest = line.split()
        camera = self.cameras[name]
        if verb == "down":
            camera.is_up = False
            self.mounts.remove_factory(f"/{name}")
            self.server.client_filter(lambda _s, client: self.closes(client, name))
        elif verb == "up":
            camera.is_up = True
            self.mounts.add_factory(f"/{name}", camera)
        elif verb == "stall":
            camera.is_stalled = True
        elif verb == "go":
            camera.is_stalled = False
        elif verb == "garbage":
            camera.num_spoiled = int(rest[0])
        elif verb == "use":
            camera.use(rest[0])
        else:
            raise ValueError(line)

    def closes(self, client, name):
        paths = []
        client.session_filter(lambda _c, session: paths.append(session) or 0)
        mine = any(self.is_of(session, name) for session in paths)
        if mine:
            client.close()
        return GstRtspServer.RTSPFilterResult.KEEP

    @staticmethod
    def is_of(session, name):
        found = []
        session.filter(
            lambda _s, media: found.append(media.matches(f"/{name}")[0] is not None) or 0
        )
        return any(found)


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main():
    port, *cameras = sys.argv[1:]
    server = Server(int(port), dict(camera.split("=", 1) for camera in cameras))
    loop = GLib.MainLoop()

    def serve_commands():
        for line in sys.stdin:
            GLib.idle_add(answer, line)
        GLib.idle_add(loop.quit)

    def answer(line):
        try:
            server.command(line)
            say("ok")
        except Exception as exc:  # The answer says it.
            say(f"error {exc!r}")
        return False

    threading.Thread(target=serve_commands, daemon=True).start()
    say("ready")
    loop.run()


if __name__ == "__main__":
    main()
