/* Powercap: a folder for each zone, `intel-rapl:0` (a package), `intel-rapl:0:2` (a part of it);
 * AMD's processors appear under the same names. `name` says what it is, `energy_uj` counts up to
 * `max_energy_range_uj` and starts again. `intel-rapl-mmio` counts the same packages once more. */
#include "harness/measure/energy.h"

#include "harness/measure/machine.h"
#include "harness/measure/nvml.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ZONES = 64 };

typedef struct energy_zone {
    char path[400];
    int64_t last_uj, range_uj;
    double joules; /* since the start */
} energy_zone;

struct anemo_energy {
    energy_zone zone[ZONES];
    int32_t zones;
    anemo_nvml *nvml;
    int32_t ordinal;
    double start_joules; /* NVML's at the start */
    char source[200];
};

static bool read_counter(const char *path, int64_t *value) {
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    const bool read = fscanf(file, "%" SCNd64, value) == 1;
    fclose(file);
    return read;
}

static bool read_word(const char *path, char *text, size_t text_bytes) {
    FILE *file = fopen(path, "re");
    const bool read = file && fgets(text, (int)text_bytes, file);
    if (file) {
        fclose(file);
    }
    text[read ? strcspn(text, "\n") : 0] = '\0';
    return read;
}

/* ---------------------------------------------------------------- RAPL */

/* Adds the zone if it is one to be added up. false: it is one, but may not be read. */
static bool take_zone(anemo_energy *meter, const char *root, const char *entry) {
    char path[400], name[40];
    energy_zone *zone = &meter->zone[meter->zones];
    snprintf(path, sizeof path, "%.200s/%.100s/name", root, entry);
    if (!strchr(entry, ':') || strncmp(entry, "intel-rapl-mmio", 15) == 0 ||
        !read_word(path, name, sizeof name) || meter->zones == ZONES ||
        (strncmp(name, "package", 7) != 0 && strcmp(name, "dram") != 0)) {
        return true;
    }
    snprintf(zone->path, sizeof zone->path, "%.200s/%.100s/energy_uj", root, entry);
    snprintf(path, sizeof path, "%.200s/%.100s/max_energy_range_uj", root, entry);
    if (!read_counter(zone->path, &zone->last_uj)) {
        return false;
    }
    if (!read_counter(path, &zone->range_uj)) {
        zone->range_uj = 0;
    }
    zone->joules = 0;
    meter->zones++;
    const size_t used = strlen(meter->source);
    snprintf(meter->source + used, sizeof meter->source - used, "%s%s", used ? ", " : "RAPL ",
             name);
    return true;
}

static double rapl_joules(anemo_energy *meter) {
    double sum = 0;
    for (int32_t i = 0; i < meter->zones; i++) {
        energy_zone *z = &meter->zone[i];
        int64_t now;
        if (!read_counter(z->path, &now)) {
            return NAN;
        }
        const int64_t grown = now - z->last_uj + (now < z->last_uj ? z->range_uj : 0);
        z->joules += 1e-6 * (double)grown;
        z->last_uj = now;
        sum += z->joules;
    }
    return sum;
}

static void lack_of_rapl(anemo_energy_lack *lack, const char *root, bool folder, bool forbidden) {
    const char *hypervisor = anemo_machine_get()->virtualisation;
    const bool guest = hypervisor[0] && strcmp(hypervisor, "none") != 0;
    if (forbidden) {
        snprintf(lack->reason, sizeof lack->reason,
                 "the energy zones of %.100s are readable by root only", root);
        snprintf(lack->remedy, sizeof lack->remedy, "chmod a+r %.100s/*/energy_uj as root", root);
        return;
    }
    snprintf(lack->reason, sizeof lack->reason, "%.60s %s%s%.40s", root,
             folder ? "has no energy zone" : "is not there",
             guest ? ": hypervisors do not pass RAPL on, and this is a guest of " : "",
             guest ? hypervisor : "");
    snprintf(lack->remedy, sizeof lack->remedy, "%s",
             guest ? "measure on the physical machine, or give the watts of a meter at the plug to "
                     "the cost scenario (busy_power)"
                   : "modprobe intel_rapl_msr (Intel and AMD), or a kernel with CONFIG_INTEL_RAPL");
}

static bool open_rapl(anemo_energy *meter, const char *root, anemo_energy_lack *lack) {
    bool forbidden = false;
    DIR *folder = opendir(root);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        errno = 0;
        forbidden |= !take_zone(meter, root, entry->d_name) && errno == EACCES;
    }
    lack_of_rapl(lack, root, folder != NULL, forbidden);
    if (folder) {
        closedir(folder);
    }
    return meter->zones > 0;
}

/* ---------------------------------------------------------------- NVML */

static bool open_nvml(anemo_energy *meter, const char *library, anemo_energy_lack *lack) {
    anemo_error err = {{0}};
    if (anemo_nvml_open(library, &meter->nvml, &err)) {
        snprintf(lack->reason, sizeof lack->reason, "%.190s", err.text);
        snprintf(lack->remedy, sizeof lack->remedy,
                 "install the NVIDIA driver; in a container, start it with --gpus all");
        return false;
    }
    snprintf(meter->source, sizeof meter->source, "NVML");
    if (!anemo_nvml_energy(meter->nvml, meter->ordinal, &meter->start_joules)) {
        snprintf(lack->reason, sizeof lack->reason, "GPU %d has no energy counter",
                 (int)meter->ordinal);
        snprintf(lack->remedy, sizeof lack->remedy, "a GPU of the Volta generation or newer");
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------- the meter */

double anemo_energy_joules(anemo_energy *meter) {
    double joules;
    if (!meter->nvml) {
        return rapl_joules(meter);
    }
    return anemo_nvml_energy(meter->nvml, meter->ordinal, &joules) ? joules - meter->start_joules
                                                                   : NAN;
}

/* Does it move within 50 ms? */
static bool counts(anemo_energy *meter) {
    const struct timespec wait = {0, 10000000};
    const double before = anemo_energy_joules(meter);
    for (int i = 0; i < 5; i++) {
        nanosleep(&wait, NULL);
        if (anemo_energy_joules(meter) > before) {
            return true;
        }
    }
    return false;
}

anemo_energy *anemo_energy_open(anemo_backend backend, int32_t ordinal,
                                const anemo_energy_places *places, anemo_energy_lack *lack) {
    const anemo_energy_places usual = {0};
    anemo_energy *meter = calloc(1, sizeof *meter);
    places = places ? places : &usual;
    *lack = (anemo_energy_lack){{0}, {0}};
    if (!meter) {
        snprintf(lack->reason, sizeof lack->reason, "no memory for an energy meter");
        return NULL;
    }
    meter->ordinal = ordinal;
    bool here =
        backend == ANEMO_CUDA
            ? open_nvml(meter, places->nvml, lack)
            : open_rapl(meter, places->powercap ? places->powercap : "/sys/class/powercap", lack);
    if (here && !counts(meter)) {
        snprintf(lack->reason, sizeof lack->reason, "%.150s does not count", meter->source);
        snprintf(lack->remedy, sizeof lack->remedy,
                 "the physical machine: counters of a virtual one may be a stub");
        here = false;
    }
    if (!here) {
        anemo_energy_close(meter);
        return NULL;
    }
    *lack = (anemo_energy_lack){{0}, {0}};
    return meter;
}

void anemo_energy_close(anemo_energy *meter) {
    if (meter) {
        anemo_nvml_close(meter->nvml);
        free(meter);
    }
}

const char *anemo_energy_source(const anemo_energy *meter) {
    return meter->source;
}
