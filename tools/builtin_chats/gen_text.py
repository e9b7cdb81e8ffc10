"""Translations out of sentences that stand here in fifteen languages; tables of units and dates, computed."""

from datetime import date, timedelta
from fractions import Fraction

from core import Random, chat, markdown_table

LANGUAGES = ["en", "zh", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar", "hi", "tr", "it", "vi", "pl"]
SENTENCES = [
    "The meeting has been moved to Wednesday.|会议改到星期三了。|会議は水曜日に変更になりました。|회의가 수요일로 변경되었습니다.|Die Besprechung wurde auf Mittwoch verschoben.|La réunion a été reportée à mercredi.|La reunión se ha aplazado al miércoles.|A reunião foi adiada para quarta-feira.|Встречу перенесли на среду.|تم تأجيل الاجتماع إلى يوم الأربعاء.|बैठक बुधवार के लिए टाल दी गई है।|Toplantı çarşambaya ertelendi.|La riunione è stata spostata a mercoledì.|Cuộc họp đã được dời sang thứ Tư.|Spotkanie zostało przeniesione na środę.",
    "Could you please repeat that more slowly?|请您再说慢一点好吗?|もう少しゆっくり言っていただけますか。|조금 더 천천히 다시 말씀해 주시겠어요?|Könnten Sie das bitte langsamer wiederholen?|Pourriez-vous répéter plus lentement, s'il vous plaît ?|¿Podría repetirlo más despacio, por favor?|Poderia repetir mais devagar, por favor?|Не могли бы вы повторить это помедленнее?|هل يمكنك أن تعيد ذلك ببطء أكثر من فضلك؟|क्या आप इसे थोड़ा धीरे दोहरा सकते हैं?|Bunu daha yavaş tekrar edebilir misiniz lütfen?|Potrebbe ripeterlo più lentamente, per favore?|Bạn có thể nói lại chậm hơn được không?|Czy może Pan powtórzyć to wolniej?",
    "The bridge was built in the nineteenth century.|这座桥建于十九世纪。|この橋は十九世紀に建てられました。|이 다리는 19세기에 지어졌습니다.|Die Brücke wurde im neunzehnten Jahrhundert gebaut.|Le pont a été construit au dix-neuvième siècle.|El puente se construyó en el siglo diecinueve.|A ponte foi construída no século dezenove.|Мост был построен в девятнадцатом веке.|بُني الجسر في القرن التاسع عشر.|यह पुल उन्नीसवीं सदी में बनाया गया था।|Köprü on dokuzuncu yüzyılda inşa edildi.|Il ponte fu costruito nell'Ottocento.|Cây cầu được xây dựng vào thế kỷ mười chín.|Most zbudowano w dziewiętnastym wieku.",
    "I forgot my umbrella on the train.|我把雨伞忘在火车上了。|電車に傘を忘れました。|기차에 우산을 두고 내렸어요.|Ich habe meinen Regenschirm im Zug vergessen.|J'ai oublié mon parapluie dans le train.|Me olvidé el paraguas en el tren.|Esqueci meu guarda-chuva no trem.|Я забыл зонт в поезде.|نسيت مظلتي في القطار.|मैं अपना छाता ट्रेन में भूल गया।|Şemsiyemi trende unuttum.|Ho dimenticato l'ombrello sul treno.|Tôi để quên ô trên tàu.|Zapomniałem parasola w pociągu.",
    "Water boils at a lower temperature in the mountains.|在山上,水的沸点更低。|山の上では水はより低い温度で沸騰します。|산에서는 물이 더 낮은 온도에서 끓습니다.|In den Bergen kocht Wasser bei niedrigerer Temperatur.|En montagne, l'eau bout à une température plus basse.|En la montaña, el agua hierve a menor temperatura.|Nas montanhas, a água ferve a uma temperatura mais baixa.|В горах вода кипит при более низкой температуре.|يغلي الماء في الجبال عند درجة حرارة أقل.|पहाड़ों में पानी कम तापमान पर उबलता है।|Dağlarda su daha düşük sıcaklıkta kaynar.|In montagna l'acqua bolle a una temperatura più bassa.|Trên núi, nước sôi ở nhiệt độ thấp hơn.|W górach woda wrze w niższej temperaturze.",
    "Please save your work before you restart the computer.|重新启动电脑之前请保存您的工作。|コンピューターを再起動する前に作業内容を保存してください。|컴퓨터를 다시 시작하기 전에 작업을 저장해 주세요.|Bitte speichern Sie Ihre Arbeit, bevor Sie den Computer neu starten.|Enregistrez votre travail avant de redémarrer l'ordinateur.|Guarde su trabajo antes de reiniciar el ordenador.|Salve seu trabalho antes de reiniciar o computador.|Сохраните работу, прежде чем перезагружать компьютер.|يرجى حفظ عملك قبل إعادة تشغيل الحاسوب.|कंप्यूटर को फिर से चालू करने से पहले अपना काम सहेज लें।|Bilgisayarı yeniden başlatmadan önce lütfen çalışmanızı kaydedin.|Salva il lavoro prima di riavviare il computer.|Vui lòng lưu công việc trước khi khởi động lại máy tính.|Zapisz swoją pracę przed ponownym uruchomieniem komputera.",
    "How much does a ticket to the old town cost?|去老城的票多少钱?|旧市街までの切符はいくらですか。|구시가지까지 가는 표는 얼마예요?|Wie viel kostet eine Fahrkarte in die Altstadt?|Combien coûte un billet pour la vieille ville ?|¿Cuánto cuesta un billete al casco antiguo?|Quanto custa uma passagem para a cidade velha?|Сколько стоит билет до старого города?|كم ثمن التذكرة إلى المدينة القديمة؟|पुराने शहर का टिकट कितने का है?|Eski şehre bir bilet ne kadar?|Quanto costa un biglietto per la città vecchia?|Vé đi phố cổ giá bao nhiêu?|Ile kosztuje bilet do starego miasta?",
    "The results were better than we had expected.|结果比我们预期的要好。|結果は予想よりも良かったです。|결과는 우리가 예상했던 것보다 좋았습니다.|Die Ergebnisse waren besser, als wir erwartet hatten.|Les résultats ont été meilleurs que prévu.|Los resultados fueron mejores de lo que esperábamos.|Os resultados foram melhores do que esperávamos.|Результаты оказались лучше, чем мы ожидали.|كانت النتائج أفضل مما توقعنا.|परिणाम हमारी अपेक्षा से बेहतर रहे।|Sonuçlar beklediğimizden daha iyiydi.|I risultati sono stati migliori del previsto.|Kết quả tốt hơn chúng tôi mong đợi.|Wyniki były lepsze, niż się spodziewaliśmy.",
    "My grandmother bakes bread every Saturday.|我奶奶每个星期六都烤面包。|祖母は毎週土曜日にパンを焼きます。|할머니는 토요일마다 빵을 구우세요.|Meine Großmutter backt jeden Samstag Brot.|Ma grand-mère fait du pain tous les samedis.|Mi abuela hornea pan todos los sábados.|Minha avó assa pão todos os sábados.|Моя бабушка каждую субботу печёт хлеб.|تخبز جدتي الخبز كل يوم سبت.|मेरी दादी हर शनिवार को रोटी पकाती हैं।|Büyükannem her cumartesi ekmek pişirir.|Mia nonna fa il pane ogni sabato.|Bà tôi nướng bánh mì vào mỗi thứ Bảy.|Moja babcia piecze chleb w każdą sobotę.",
    "We are looking for someone who speaks two languages.|我们在找一位会说两种语言的人。|二か国語を話せる人を探しています。|두 가지 언어를 할 수 있는 사람을 찾고 있습니다.|Wir suchen jemanden, der zwei Sprachen spricht.|Nous cherchons quelqu'un qui parle deux langues.|Buscamos a alguien que hable dos idiomas.|Procuramos alguém que fale dois idiomas.|Мы ищем человека, который говорит на двух языках.|نبحث عن شخص يتحدث لغتين.|हम ऐसे व्यक्ति की तलाश में हैं जो दो भाषाएँ बोलता हो।|İki dil konuşan birini arıyoruz.|Cerchiamo qualcuno che parli due lingue.|Chúng tôi đang tìm người nói được hai ngôn ngữ.|Szukamy kogoś, kto mówi w dwóch językach.",
    "If it rains tomorrow, we will stay at home.|如果明天下雨,我们就待在家里。|明日雨が降ったら、家にいます。|내일 비가 오면 우리는 집에 있을 거예요.|Wenn es morgen regnet, bleiben wir zu Hause.|S'il pleut demain, nous resterons à la maison.|Si llueve mañana, nos quedaremos en casa.|Se chover amanhã, ficaremos em casa.|Если завтра будет дождь, мы останемся дома.|إذا أمطرت غدًا فسنبقى في البيت.|अगर कल बारिश हुई तो हम घर पर रहेंगे।|Yarın yağmur yağarsa evde kalacağız.|Se domani piove, resteremo a casa.|Nếu ngày mai trời mưa, chúng tôi sẽ ở nhà.|Jeśli jutro będzie padać, zostaniemy w domu.",
    "The museum opens at nine and closes at six.|博物馆九点开门,六点关门。|博物館は九時に開いて六時に閉まります。|박물관은 9시에 열고 6시에 닫습니다.|Das Museum öffnet um neun und schließt um sechs.|Le musée ouvre à neuf heures et ferme à six heures.|El museo abre a las nueve y cierra a las seis.|O museu abre às nove e fecha às seis.|Музей открывается в девять и закрывается в шесть.|يفتح المتحف في التاسعة ويغلق في السادسة.|संग्रहालय नौ बजे खुलता है और छह बजे बंद होता है।|Müze dokuzda açılır ve altıda kapanır.|Il museo apre alle nove e chiude alle sei.|Bảo tàng mở cửa lúc chín giờ và đóng cửa lúc sáu giờ.|Muzeum otwiera się o dziewiątej, a zamyka o szóstej.",
]
TABLE = [dict(zip(LANGUAGES, line.split("|"), strict=True)) for line in SENTENCES]
# "Translate into X", said in that same language, with no name of the source language.
ASK = {
    "en": "Translate into English:", "zh": "请翻译成中文:", "ja": "日本語に訳してください:", "ko": "한국어로 번역해 주세요:",
    "de": "Übersetze ins Deutsche:", "fr": "Traduis en français :", "es": "Traduce al español:", "pt": "Traduza para o português:",
    "ru": "Переведи на русский:", "ar": "ترجم إلى العربية:", "hi": "हिन्दी में अनुवाद कीजिए:", "tr": "Türkçeye çevir:",
    "it": "Traduci in italiano:", "vi": "Dịch sang tiếng Việt:", "pl": "Przetłumacz na polski:",
}
NAMES = dict(zip(LANGUAGES, "English Chinese Japanese Korean German French Spanish Portuguese Russian Arabic Hindi Turkish Italian Vietnamese Polish".split()))


def translations(random):
    for index, target in enumerate(LANGUAGES):
        for shape in range(3):
            source = random.pick([x for x in LANGUAGES if x != target]) if shape or target == "en" else "en"
            rows = random.sample(TABLE, [1, 3, 5][shape])
            if shape == 2 and index % 2:
                turns = []
                for k, row in enumerate(rows):
                    turns += [row[source], row[target]]
                yield chat("translate", target, *turns, system=f"You are an interpreter. Translate every message into {NAMES[target]} and add nothing.")
            else:
                bullet = "{}. ".format if len(rows) > 1 else lambda _: ""
                yield chat("translate", target, ASK[target] + "\n\n" + "\n".join(bullet(k) + r[source] for k, r in enumerate(rows, 1)),
                           "\n".join(bullet(k) + r[target] for k, r in enumerate(rows, 1)))
    for row in TABLE:
        chosen = random.sample(LANGUAGES[1:], random.between(5, 12))
        yield chat("translate-table", "multi", f"How do you say \"{row['en']}\" in " + ", ".join(NAMES[x] for x in chosen[:-1]) + f" and {NAMES[chosen[-1]]}?",
                   markdown_table(["Language", "Sentence"], [[NAMES[x], row[x]] for x in chosen]))
    for _ in range(6):
        pairs = [(x, row) for x, row in zip(random.sample(LANGUAGES, 8), random.shuffled(TABLE))]
        lines = [f'  {{"id": {k}, "language": "{x}", "english": "{row["en"]}"}}' for k, (x, row) in enumerate(pairs, 1)]
        yield chat("translate-json", "multi", "\n".join(f"{k}. {row[x]}" for k, (x, row) in enumerate(pairs, 1)), "[\n" + ",\n".join(lines) + "\n]",
                   system="For each numbered sentence give the ISO 639-1 code of its language and an English translation, as a JSON array.")


CALENDAR = {
    "en": ("Which day of the week is {d}, which day of the year, and how many days is it from {e}?", "{d} is a **{w}**, day {n} of the year, and {k} days after {e}.", "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "de": ("Welcher Wochentag ist der {d}, der wievielte Tag des Jahres, und wie viele Tage liegt er nach dem {e}?", "Der {d} ist ein **{w}**, der {n}. Tag des Jahres, und liegt {k} Tage nach dem {e}.", "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag"),
    "fr": ("Quel jour de la semaine est le {d} ? Combien de jours après le {e} ?", "Le {d} est un **{w}**, le jour numéro {n} de l'année, et il vient {k} jours après le {e}.", "lundi mardi mercredi jeudi vendredi samedi dimanche"),
    "es": ("¿Qué día de la semana es el {d} y cuántos días han pasado desde el {e}?", "El {d} es **{w}**, el día número {n} del año, {k} días después del {e}.", "lunes martes miércoles jueves viernes sábado domingo"),
    "zh": ("{d} 是星期几?是当年的第几天?距离 {e} 有多少天?", "{d} 是**{w}**,当年的第 {n} 天,在 {e} 之后 {k} 天。", "星期一 星期二 星期三 星期四 星期五 星期六 星期日"),
    "ja": ("{d} は何曜日ですか。{e} から何日後ですか。", "{d} は**{w}**で、その年の {n} 日目です。{e} の {k} 日後に当たります。", "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日"),
    "ko": ("{d}은 무슨 요일이고 {e}부터 며칠 뒤인가요?", "{d}은 **{w}**이고 그해의 {n}번째 날이며, {e}부터 {k}일 뒤입니다.", "월요일 화요일 수요일 목요일 금요일 토요일 일요일"),
    "ru": ("Какой день недели приходится на {d}, и сколько дней прошло с {e}?", "{d}: **{w}**, день года номер {n}; число дней, прошедших с {e}: {k}.", "понедельник вторник среда четверг пятница суббота воскресенье"),
    "pt": ("Que dia da semana é {d} e quantos dias se passaram desde {e}?", "{d} cai em **{w}**, é o dia {n} do ano e fica {k} dias depois de {e}.", "segunda-feira terça-feira quarta-feira quinta-feira sexta-feira sábado domingo"),
    "tr": ("{d} haftanın hangi günü ve {e} tarihinden kaç gün sonra?", "{d} günlerden **{w}**, yılın {n}. günü ve {e} tarihinden {k} gün sonra.", "pazartesi salı çarşamba perşembe cuma cumartesi pazar"),
    "hi": ("{d} को कौन सा दिन है और {e} से कितने दिन बाद?", "{d} को **{w}** है, वर्ष का दिन क्रमांक {n}, और यह {e} के {k} दिन बाद है।", "सोमवार मंगलवार बुधवार गुरुवार शुक्रवार शनिवार रविवार"),
    "ar": ("ما يوم الأسبوع الموافق {d}، وكم يومًا يفصله عن {e}؟", "يوافق {d} يوم **{w}**، وترتيبه في السنة {n}، وعدد الأيام بعد {e} هو {k}.", "الاثنين الثلاثاء الأربعاء الخميس الجمعة السبت الأحد"),
    "pl": ("Jaki dzień tygodnia przypada {d} i ile dni minęło od {e}?", "{d} to **{w}**, dzień roku nr {n}; od {e} minęło dni: {k}.", "poniedziałek wtorek środa czwartek piątek sobota niedziela"),
}


def calendars(random):
    for language, (ask, answer, days) in CALENDAR.items():
        turns = []
        for _ in range(random.between(1, 3)):
            first = date(random.between(1950, 2030), 1, 1) + timedelta(days=random.below(365))
            second = first + timedelta(days=random.between(30, 3000))
            values = dict(d=second.isoformat(), e=first.isoformat(), w=days.split()[second.weekday()], n=second.timetuple().tm_yday, k=(second - first).days)
            turns += [ask.format(**values), answer.format(**values)]
        yield chat("calendar", language, *turns)
    for _ in range(6):
        year, month = random.between(2024, 2031), random.between(1, 12)
        day, weeks = date(year, month, 1), [[""] * 7]
        while day.month == month:
            weeks[-1][day.weekday()] = day.day
            day += timedelta(days=1)
            if day.weekday() == 0 and day.month == month:
                weeks.append([""] * 7)
        yield chat("calendar", "en", f"Print the calendar for {year}-{month:02d} as a table, weeks starting on Monday.", markdown_table("Mo Tu We Th Fr Sa Su".split(), weeks, range(7)))


UNITS = {
    "en": ("Convert to metric: {v}", "Original", "Metric", "Factors: 1 mi = 1.609344 km, 1 lb = 0.45359237 kg, 1 ft = 0.3048 m, °C = (°F − 32) · 5/9."),
    "de": ("Rechne in metrische Einheiten um: {v}", "Angabe", "Metrisch", "Faktoren: 1 mi = 1,609344 km, 1 lb = 0,45359237 kg, 1 ft = 0,3048 m, °C = (°F − 32) · 5/9. (Dezimalpunkt in der Tabelle.)"),
    "fr": ("Convertis en unités métriques : {v}", "Valeur", "Métrique", "1 mi = 1,609344 km ; 1 lb = 0,45359237 kg ; 1 ft = 0,3048 m ; °C = (°F − 32) × 5/9."),
    "es": ("Convierte al sistema métrico: {v}", "Original", "Métrico", "1 mi = 1.609344 km, 1 lb = 0.45359237 kg, 1 ft = 0.3048 m, °C = (°F − 32) · 5/9."),
    "zh": ("换算成公制单位:{v}", "原值", "公制", "换算关系:1 mi = 1.609344 km,1 lb = 0.45359237 kg,1 ft = 0.3048 m,°C = (°F − 32) × 5/9。"),
    "ja": ("メートル法に換算してください:{v}", "元の値", "換算後", "1 mi = 1.609344 km、1 lb = 0.45359237 kg、1 ft = 0.3048 m、°C = (°F − 32) × 5/9 を使いました。"),
    "ru": ("Переведи в метрические единицы: {v}", "Исходное", "Метрическое", "1 mi = 1,609344 км, 1 lb = 0,45359237 кг, 1 ft = 0,3048 м, °C = (°F − 32) · 5/9."),
    "ko": ("미터법으로 바꿔 주세요: {v}", "원래 값", "미터법", "1 mi = 1.609344 km, 1 lb = 0.45359237 kg, 1 ft = 0.3048 m, °C = (°F − 32) × 5/9."),
}


def units(random):
    factors = {"mi": (Fraction("1.609344"), "km"), "lb": (Fraction("0.45359237"), "kg"), "ft": (Fraction("0.3048"), "m")}
    for language, (ask, left, right, note) in UNITS.items():
        for _ in range(2 if language == "en" else 1):
            given, rows = [], []
            for unit in random.sample(["mi", "lb", "ft", "°F", "mi", "lb", "°F"], random.between(3, 6)):
                value = random.between(2, 230)
                given.append(f"{value} {unit}")
                if unit == "°F":
                    rows.append([given[-1], f"{float(Fraction(value - 32) * 5 / 9):.1f} °C"])
                else:
                    factor, metric = factors[unit]
                    rows.append([given[-1], f"{float(value * factor):.2f} {metric}"])
            yield chat("units", language, ask.format(v=", ".join(given)), markdown_table([left, right], rows) + "\n\n" + note)


def make():
    random = Random("text")
    for maker in (translations, calendars, units):
        yield from maker(random)
